"""Kinds of dense index: how many bytes a vector costs in RAM, and which kind fits a budget."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from typing import Any

from kaggle_rag.runtime.errors import ConfigError, LimitError
from kaggle_rag.runtime.words import counted

# Vectors that a k-means centroid is learned from: FAISS warns below 39, and gains little above this.
VECTORS_A_LIST = 64
# Codes of 8 bits are learned from as many vectors at least.
_LEAST_FOR_CODES = 256
# Fewer vectors than this are searched one by one as fast as by lists.
_LEAST_FOR_LISTS = 20_000
# From this many lists on, the nearest ones are found by a graph (HNSW) instead of a matrix product.
_LISTS_BY_GRAPH = 16_384
# Above this many rows, scanning all of them takes longer than a notebook has.
_MOST_SCANNED = 2_000_000


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of index.

    ``factory`` is FAISS's own description, with ``{lists}`` and ``{quarter}`` (dim / 4) to fill in;
    ``bytes`` a vector's cost in RAM, ids included, by dimension; ``vectors`` the precision in which
    the rows are stored on disk for exact refinement, which the kind needs if ``refined``. ``described``: to
    the letter by the user, in FAISS's own words.
    """

    factory: str
    bytes: Callable[[int], float]
    vectors: str
    refined: bool
    text: str
    described: bool = False

    @property
    def lists(self) -> bool:
        return "IVF" in self.factory

    @property
    def grown(self) -> bool:
        """Whether it is made block by block, and saved on the way; else its codes are in the rows' order."""
        return self.lists or self.described

    @property
    def in_registers(self) -> bool:
        """Whether its codes are scanned by fast-scan, which depends on AVX2 or NEON."""
        return self.factory.endswith("fs")


# From the most exact to the smallest: a budget selects the first that fits.
KINDS: dict[str, Kind] = {
    "flat": Kind("Flat", lambda d: 4 * d, "fp32", False, "exact, every vector in float32"),
    "fp16": Kind("SQfp16", lambda d: 2 * d, "fp16", False, "every vector in half precision"),
    "sq8": Kind("SQ8", lambda d: d, "fp16", True, "every vector in 8 bits per dimension"),
    "ivf-sq8": Kind("IVF{lists},SQ8", lambda d: d + 8, "fp16", True, "lists of 8-bit vectors"),
    "ivf-rabitq": Kind(
        "IVF{lists},RaBitQfs", lambda d: d / 8 + 24, "fp16", True,
        "lists of 1-bit codes with error bounds (Gao and Long 2024), scanned in registers",
    ),
    "ivf-pq": Kind(
        "IVF{lists},PQ{quarter}x4fs", lambda d: d / 8 + 8, "fp16", True,
        "lists of 4-bit product codes (Andre et al. 2017), scanned in registers",
    ),
}  # fmt: skip


_THOUSANDS = {"": 1, "k": 1 << 10, "M": 1 << 20}


def kind_of(name: str, where: str = "--index") -> Kind:
    """The kind of that name, or of FAISS's description, such as ``IVF4096,SQ8``.

    Raises
    ------
    ConfigError : it is neither the one nor looks like the other.
    """
    if name in KINDS:
        return KINDS[name]
    if not name[:1].isupper():
        raise ConfigError(
            f"no index kind {name!r}", where=where,
            expected="one of " + ", ".join(KINDS) + ", or a description of FAISS's, in its capital letters, "
            "such as IVF4096,SQ8",
        )  # fmt: skip
    told = "as FAISS describes it"
    return Kind(name, functools.partial(_row_bytes, name), "fp16", True, told, described=True)


def _row_bytes(factory: str, dim: int) -> float:
    return _bytes_in(_described(factory, dim))


def _bytes_in(owner: Any) -> float:
    """Bytes of a vector in an index, and in those that it is made of: its code, its id, its links."""
    import faiss

    # What it is in truth; it does not keep ``owner`` alive.
    index = faiss.downcast_index(owner)
    if isinstance(index, faiss.IndexPreTransform):
        return _bytes_in(index.index)
    if isinstance(index, faiss.IndexRefine):
        return _bytes_in(index.base_index) + _bytes_in(index.refine_index)
    if isinstance(index, faiss.IndexIVF):
        return float(index.code_size) + 8
    if isinstance(index, faiss.IndexHNSW):
        graph: Any = index.hnsw
        # The links of the lowest layer, of 4 bytes each, and 12 bytes of the node.
        return _bytes_in(index.storage) + float(4 * graph.nb_neighbors(0) + 12)
    return float(index.sa_code_size())


def _described(factory: str, dim: int) -> Any:
    import faiss

    return faiss.index_factory(dim, factory, faiss.METRIC_L2)


def lists_of(name: str, rows: int) -> int:
    """How many inverted lists a kind has for that many rows."""
    told = re.search(r"IVF(\d+)([kM]?)", name)
    return int(told[1]) * _THOUSANDS[told[2]] if told else lists_for(rows)


def lists_for(rows: int) -> int:
    """How many inverted lists: the greatest power of two up to twice the root of the rows.

    A query is then compared with about as many centroids as vectors of a few lists (the rule of
    https://github.com/facebookresearch/faiss/wiki/Guidelines-to-choose-an-index, halved, because on
    two cores assigning every row to a list is most of the work of building).
    """
    return int(2 ** int(math.log2(2 * math.sqrt(max(rows, 1)))))


def factory_of(name: str, rows: int, dim: int) -> str:
    """The FAISS factory string of a kind for a corpus of that size."""
    lists = lists_for(rows)
    graph = "_HNSW32" if lists >= _LISTS_BY_GRAPH else ""
    return kind_of(name).factory.format(lists=f"{lists}{graph}", quarter=dim // 4)


def ram_of(name: str, rows: int, dim: int) -> int:
    """Bytes of RAM that an index of this kind needs, including its centroids."""
    centroids = lists_of(name, rows) * dim * 4 if kind_of(name).lists else 0
    return math.ceil(kind_of(name).bytes(dim) * rows) + centroids


def choose(rows: int, dim: int, ram: int, base: int) -> str:
    """The most exact kind that fits: ``ram`` is the whole budget, ``base`` what the rest needs.

    Raises
    ------
    LimitError : not even the smallest fits; the message gives the smallest budget that works.
    """
    fitting = [
        name
        for name in KINDS
        if base + ram_of(name, rows, dim) <= ram
        and not unfit(name, rows, dim)
        and (KINDS[name].lists or rows <= _MOST_SCANNED)
    ]
    if not fitting:
        least = min(base + ram_of(name, rows, dim) for name in KINDS if not unfit(name, rows, dim))
        raise LimitError(
            f"no index of {counted(rows, 'vector')} of {dim} dimensions fits",
            expected=f"at least {math.ceil(least / 1e7) / 100:.2f} GB; {ram / 1e9:.2f} GB were given",
            cure=f"pass --ram {math.ceil(least / 1e8) / 10}GB, or make fewer passages (--unit window:254/64)",
        )
    return fitting[0]


def unfit(name: str, rows: int, dim: int) -> str:
    """Why a kind cannot be built from this many vectors of that length; empty if it can."""
    kind = kind_of(name)
    if kind.described:
        least = max(lists_of(name, rows) if kind.lists else 0, _LEAST_FOR_CODES)
        too_few = f"{counted(rows, 'vector is', 'vectors are')} too few to learn it from ({least:,} at least)"
        few = too_few if rows < least else ""
        return impossible(name, dim) or few
    if kind.lists and rows < _LEAST_FOR_LISTS:
        too_few = f"{counted(rows, 'vector is', 'vectors are')} too few to learn lists from"
        return f"{too_few} ({_LEAST_FOR_LISTS:,} at least)"
    if "{quarter}" in kind.factory and dim % 8:
        return f"{dim} dimensions do not divide into pairs of 4-dimensional codes"
    return ""


def impossible(name: str, dim: int) -> str:
    """Why no index of a description can be made of such vectors; empty if one can, or for our kinds."""
    if not kind_of(name).described:
        return ""
    if unknown := re.search(r"IMI|IDMap|NSG|LSH|x16|^BIVF|^BHash|^BFlat|^BHNSW", name):
        return f"{unknown[0]} is not supported here"
    # FAISS ends the process, or divides by zero.
    if nothing := re.search(r"[A-Z]+0\b", name):
        return f"{nothing[0]}: a number above 0 is expected"
    return _trial(name, dim)


@functools.lru_cache(maxsize=8)
def _trial(name: str, dim: int) -> str:
    """What FAISS says when it makes a small index of the description, with few lists; empty: it can."""
    import numpy as np

    # A learned rotation takes minutes, and fails no other way than a PCA.
    simple = re.sub(r"OPQ\d+_", "PCA", re.sub(r"OPQ\d+,", "", re.sub(r"IVF\d+[kM]?", "IVF2", name)))
    # The order of codes for polysemous search takes half a minute, however few the vectors.
    simple = re.sub(r"(PQ\d+(?:x\d+)?)(?=,|$)", r"\1np", simple)
    codebooks = max((2 ** int(bits) for bits in re.findall(r"PQ\d+x(\d+)", name)), default=0)
    vectors = np.random.default_rng(0).normal(size=(max(_LEAST_FOR_CODES, codebooks), dim)).astype(np.float32)
    try:
        _row_bytes(name, dim)
        index = _described(simple, dim)
        index.train(vectors)
        index.add(vectors)
    except RuntimeError as error:
        # Where in its source, then what.
        return re.sub(r"^Error in .*? at \S+: ", "", " ".join(str(error).split()))
    return ""


def simpler(name: str, rows: int, dim: int) -> str:
    """The kind itself, or the nearest simpler one that can be built from so few vectors."""
    names = list(KINDS)
    candidates = [*reversed(names[: names.index(name) + 1])] if name in KINDS else [name]
    return next((each for each in candidates if not unfit(each, rows, dim)), "flat")


def describe() -> str:
    """The table of kinds, for ``--help``."""
    lines = [f"  {name:<11} {kind.bytes(384):>6.0f} bytes   {kind.text}" for name, kind in KINDS.items()]
    lines.append("  or a description of FAISS's to the letter, such as IVF4096,SQ8 or PCA192,IVF1024,PQ48")
    return "index kinds, and what a vector of 384 dimensions costs in RAM:\n" + "\n".join(lines)
