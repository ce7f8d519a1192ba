"""Rows that are nearly the same: by the words they hold, or by their vectors.

Both searches are exact (no hashing, nothing is missed above the threshold) and run in blocks, so
that memory stays bounded whatever the size of the tables.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from kaggle_rag.runtime.errors import ConfigError, InputError

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
# A number keeps its sign and its decimals, and operators are content: "x + 5" is not "x = 5".
# Vowel signs of Hindi or Thai are marks, which \w leaves out: words would lose what distinguishes them.
_MARKS = "".join(c for c in map(chr, range(0x300, 0xFFFF)) if unicodedata.category(c)[0] == "M")
_WORD = re.compile(
    r"(?:(?<![\w)])[-−])?\d+(?:[.,:/]\d+)*|[^\W\d_]+(?:[" + _MARKS + r"]+[^\W\d_]*)*|[+*/^=<>≤≥≠±×÷√%°]"
)
_NUMBER = re.compile(r"\d")
# Cells of a block of similarities, and candidates compared at once: about 100 MB each.
_CELLS = 16_000_000
_CANDIDATES = 200_000
# Beyond this many pairs per row a threshold is meaningless, and the list would fill the memory.
_MOST_PAIRS = 200


class Near(NamedTuple):
    """Pairs of rows: ``(p,)`` int64 rows on each side, ``(p,)`` float64 similarities."""

    left: Rows
    right: Rows
    similarity: Floats


def words(text: str) -> list[str]:
    """The words, numbers and operators of a text in order, without case and punctuation.

    In a script without spaces (Chinese, Thai) a clause is one word: copies are results, and small
    edits only by vectors.
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def plain(text: str) -> str:
    """`words` as one text; where nothing is left (``"?"``), the text itself without outer spaces."""
    return " ".join(words(text)) or text.strip()


def is_number(word: str) -> bool:
    """Whether a word of `words` is a number."""
    return _NUMBER.search(word) is not None


class WordSets:
    """Sets of words with idf weights, as rows of a sparse matrix.

    The weight of a word that occurs in ``df`` of ``n`` rows is ``ln(1 + n / df)``: common words count
    little, but none counts for nothing. Source: Sparck Jones 1972, https://doi.org/10.1108/eb026526.

    Parameters
    ----------
    rows : the words of each row; repeated ones count once.
    """

    def __init__(self, rows: Sequence[Iterable[str]]) -> None:
        columns: dict[str, int] = {}
        sets = [sorted({columns.setdefault(word, len(columns)) for word in row}) for row in rows]
        ends = np.cumsum([0, *map(len, sets)])
        flat = np.fromiter((column for row in sets for column in row), np.int64, int(ends[-1]))
        frequency = np.bincount(flat, minlength=max(1, len(columns)))
        weights = np.log1p(len(sets) / np.maximum(frequency, 1))
        # The square root, because a product of two rows then sums the weights of shared words.
        shape = (len(sets), len(weights))
        self._set_matrix(sparse.csr_matrix((np.sqrt(weights[flat]), flat, ends), shape=shape))

    def _set_matrix(self, matrix: sparse.csr_matrix) -> None:
        self.matrix = matrix
        self.totals = np.asarray(matrix.multiply(matrix).sum(axis=1), dtype=np.float64).ravel()

    def take(self, rows: Rows) -> WordSets:
        """The sets at ``rows``, with the weights they have here."""
        selected = WordSets.__new__(WordSets)
        selected._set_matrix(self.matrix[rows])
        return selected

    def prefixes(self, threshold: float) -> sparse.csr_matrix:
        """Each row's heaviest words; two rows above the threshold must share one of them."""
        matrix = self.matrix
        row_of = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        # Heaviest first; one order of all words, so that ties are ordered alike in every row.
        order = np.lexsort((matrix.indices, -matrix.data, row_of))
        weights = matrix.data[order] ** 2
        before = np.cumsum(weights) - weights
        starts = matrix.indptr[:-1][np.diff(matrix.indptr) > 0]
        before -= np.repeat(before[starts], np.diff(matrix.indptr)[np.diff(matrix.indptr) > 0])
        rest = self.totals[row_of] - before
        selected = rest >= threshold * self.totals[row_of] - 1e-9
        rows, columns = row_of[selected], matrix.indices[order][selected]
        ones = np.ones(len(rows), dtype=np.float32)
        return sparse.csr_matrix((ones, (rows, columns)), shape=matrix.shape)


def near_by_words(sets: WordSets, threshold: float, split: int | None = None) -> Near:
    """All pairs of rows whose weighted Jaccard similarity is at least ``threshold``.

    Jaccard is the weight of the shared words over the weight of all words of both. Two rows at or
    above the threshold share one of their heaviest words, so only such pairs are compared (prefix
    filtering: Chaudhuri et al. 2006, https://doi.org/10.1109/ICDE.2006.9; Bayardo et al. 2007,
    https://doi.org/10.1145/1242572.1242591).

    Parameters
    ----------
    threshold : above 0, at most 1.
    split : pairs of one row before and one row from ``split`` on; ``None``: pairs within the table,
        the smaller row left.

    Raises
    ------
    ConfigError : the threshold is out of range, or so low that it finds hundreds of pairs per row.
    """
    _check(threshold)
    heads = sets.prefixes(threshold)
    left, right = (heads, heads) if split is None else (heads[:split], heads[split:])
    shift = 0 if split is None else split
    across = right.T.tocsr()
    # An upper bound on the candidates of each row determines how many rows fit in one block.
    bound = np.cumsum(np.r_[0.0, left @ np.diff(across.indptr).astype(np.float64)])
    results: list[Near] = []
    for first, last in _blocks(bound, _CANDIDATES):
        pairs = (left[first:last] @ across).tocoo()
        rows, others = pairs.row.astype(np.int64) + first, pairs.col.astype(np.int64) + shift
        fit = np.minimum(sets.totals[rows], sets.totals[others]) >= threshold * np.maximum(
            sets.totals[rows], sets.totals[others]
        )
        fit &= rows < others
        results.append(_at_least(sets, rows[fit], others[fit], threshold))
        _refuse_floods(results, sets.matrix.shape[0], threshold)
    return _joined(results)


def _at_least(sets: WordSets, rows: Rows, others: Rows, threshold: float) -> Near:
    shared = np.asarray(sets.matrix[rows].multiply(sets.matrix[others]).sum(axis=1)).ravel()
    similarity = shared / np.maximum(sets.totals[rows] + sets.totals[others] - shared, 1e-300)
    keep = similarity >= threshold - 1e-9
    return Near(rows[keep], others[keep], np.minimum(similarity[keep], 1.0))


def near_by_vectors(left: npt.ArrayLike, right: npt.ArrayLike | None, threshold: float) -> Near:
    """All pairs of rows whose cosine is at least ``threshold``.

    Parameters
    ----------
    left : ``(n, d)`` vectors of any length; one of length 0 is similar to nothing.
    right : ``(m, d)`` vectors of another table, or ``None`` for pairs within ``left``, the smaller
        row left.

    Raises
    ------
    InputError : not two-dimensional, of different widths, or not finite.
    ConfigError : as `near_by_words`.
    """
    _check(threshold)
    rows = _units(left)
    others = rows if right is None else _units(right)
    if rows.shape[1] != others.shape[1]:
        raise InputError(
            f"vectors of {rows.shape[1]} and of {others.shape[1]} dimensions",
            expected="vectors of one encoder",
        )
    step = max(1, _CELLS // max(1, len(others)))
    results: list[Near] = []
    for first in range(0, len(rows), step):
        start = first if right is None else 0
        cosines = rows[first : first + step] @ others[start:].T
        above = np.argwhere(cosines >= threshold)
        hits = Near(above[:, 0] + first, above[:, 1] + start, cosines[tuple(above.T)].astype(np.float64))
        keep = hits.left < hits.right if right is None else slice(None)
        results.append(Near(hits.left[keep], hits.right[keep], np.minimum(hits.similarity[keep], 1.0)))
        _refuse_floods(results, len(rows) + (0 if right is None else len(others)), threshold)
    return _joined(results)


def _units(vectors: npt.ArrayLike) -> npt.NDArray[np.float32]:
    rows = np.asarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise InputError(
            f"the vectors have the shape {rows.shape}" if rows.ndim != 2 else "a vector is not finite",
            expected="one row of finite numbers per question, (n, d)",
        )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def _blocks(bound: Floats, most: float) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose bounds sum to at most ``most``, or a single row."""
    first, rows = 0, len(bound) - 1
    while first < rows:
        last = max(first + 1, int(np.searchsorted(bound, bound[first] + most, "right")) - 1)
        yield first, last
        first = last


def _check(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise ConfigError(f"a similarity threshold of {threshold}", expected="above 0, at most 1")


def _refuse_floods(results: Sequence[Near], rows: int, threshold: float) -> None:
    pairs = sum(len(near.left) for near in results)
    if pairs > max(_MOST_PAIRS * rows, 10_000):
        raise ConfigError(
            f"the similarity threshold {threshold} finds more than {_MOST_PAIRS} pairs per question",
            cure="raise it: that many pairs are not duplicates",
        )


def _joined(results: Sequence[Near]) -> Near:
    if not results:
        return Near(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Near(*(np.concatenate(part) for part in zip(*results)))
