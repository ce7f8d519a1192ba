"""Check the models, index and rankers of a solution before any work, by their files alone.

Nothing here imports torch: headers, cards and manifests are enough.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kaggle_rag.config import Solution
from kaggle_rag.index.manifest import EncoderCard, Manifest
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, attached, is_quantized, resolve
from kaggle_rag.models.memory import require_whole
from kaggle_rag.rankers.registry import check_options, learns_at_once, settings_of
from kaggle_rag.runtime.errors import ArtifactError, ConfigError
from kaggle_rag.runtime.faults import Gathered
from kaggle_rag.runtime.places import plain

LEXICAL = "bm25"
# Types that the annotations of a ranker's settings may use.
_TYPES = {"str": str, "int": int, "float": float, "bool": bool}
_WORDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}


def check_models(faults: Gathered, solution: Solution, *, search: bool, encodes: bool) -> None:
    """Check the index, retrievers, encoders and re-ranker that a run uses.

    Parameters
    ----------
    search : contexts are found in the index.
    encodes : an encoder is used, by the search or by a ranker.
    """
    manifest: Manifest | None = None
    if solution.index is not None:
        with faults.check():
            manifest = Manifest.read(solution.index)
    if manifest is not None:
        with faults.check():
            _check_names(manifest, solution, search=search)
    if encodes:
        with faults.check():
            if manifest is None:
                resolve(solution.encoder or DEFAULT_ENCODER)
            else:
                check_encoder(manifest.encoder, solution.encoder)
    if search and manifest is not None:
        for name in solution.contexts.retrievers:
            if name in manifest.dense and name != manifest.default:
                with faults.check():
                    check_encoder(manifest.dense[name].encoder, solution.encoders.get(name), name)
    if search and solution.contexts.reranker:
        with faults.check():
            resolve(solution.contexts.reranker)


def _check_names(manifest: Manifest, solution: Solution, *, search: bool) -> None:
    known = [*manifest.dense, *([LEXICAL] if manifest.lexical_rows else [])]
    retrievers = solution.contexts.retrievers if search else {}
    for name in retrievers:
        if name == LEXICAL and name not in known:
            raise ConfigError(
                "this index has no BM25 part", where=str(solution.index),
                cure="rebuild it with --lexical (--reuse copies the vectors), or remove bm25 from "
                "contexts.retrievers",
            )  # fmt: skip
        if name not in known:
            raise ConfigError(
                f"no retriever {name!r} in this index", where="contexts.retrievers",
                expected="one of " + ", ".join(known),
            )  # fmt: skip
    for name in solution.encoders:
        if name not in manifest.dense or name == manifest.default:
            others = [each for each in manifest.dense if each != manifest.default]
            raise ConfigError(
                f"no further retriever {name!r} in this index", where="encoders",
                expected="one of " + ", ".join(others) if others else "none: the index has one encoder",
                cure="name the default retriever's encoder with encoder (--encoder FOLDER)",
            )  # fmt: skip


def check_encoder(card: EncoderCard, name: str | None, retriever: str | None = None) -> None:
    """Raise ``KitError`` unless the encoder that made a set of vectors is on this machine."""
    checkpoint = resolve(name or card.name)
    if checkpoint.sha256 != card.sha256:
        flag = f"--encoder {retriever}=FOLDER" if retriever else "--encoder"
        raise ArtifactError(
            f"the index was built with another encoder, not {checkpoint.name!r}",
            expected=f"{card.name!r} with weights sha256 {card.sha256[:16]}..., found "
            f"{checkpoint.sha256[:16]}...",
            cure=f"give the encoder of the index with {flag}, or rebuild the index",
        )


def check_ranker(
    kind: str, options: Mapping[str, Any], where: str, *, trained_here: bool = False
) -> None:
    """Raise ``KitError`` for an unknown ranker, an unknown or invalid setting, or a missing folder.

    ``trained_here``: the folder has yet to be made.
    """
    check_options(kind, options, where)
    annotations = settings_of(kind)
    for name, value in options.items():
        _check_type(annotations[name], value, f"{where}.options.{name}")
    if trained_here:
        return
    if kind == "trained":
        _check_folder(options, where)
    if learns_at_once(kind, options):
        raise ConfigError(
            f"the ranker {kind!r} has learnt nothing yet", where=f"{where}.options",
            cure="python -m training cross-validate SOLUTION --final writes a solution with what it learns, "
            f"python -m training {kind} prints it",
        )  # fmt: skip


def _check_type(annotation: str, value: Any, where: str) -> None:
    parts = [part.strip() for part in annotation.split("|")]
    if not set(parts) <= {*_TYPES, "None"}:
        return
    kinds = [part for part in parts if part != "None"]
    if value is None and "None" in parts:
        return
    for kind in kinds:
        try:
            TypeAdapter(_TYPES[kind]).validate_python(value, strict=True)
            return
        except ValidationError:
            continue
    raise ConfigError(f"cannot be {value!r}", where=where, expected=" or ".join(_WORDS[k] for k in kinds))


def _check_folder(options: Mapping[str, Any], where: str) -> None:
    """Check the folder of a trained ranker, its adapter's backbone, and the packages it needs."""
    from kaggle_rag.models.card import CARD, RankerCard, require_base

    if not (name := options.get("folder")):
        raise ConfigError("the ranker 'trained' needs the setting 'folder'", where=f"{where}.options")
    folder = Path(plain(str(name)))
    if not folder.is_dir():
        folder = next(attached(str(name), CARD), folder)
    if not folder.is_dir():
        folder = resolve(str(name)).path
    whole = True
    if (folder / CARD).is_file() or not options.get("form"):
        card = RankerCard.read(folder)
        if card.base:
            require_base(str(options.get("base") or card.base), card)
        whole = not card.base
        _require(["bitsandbytes"] if card.nf4 and card.base else [], where)
    else:
        # A card would hold the checksum of every file.
        require_whole(folder)
    _require(["bitsandbytes"] if is_quantized(folder) else [], where)
    if whole and options.get("base"):
        raise ConfigError(
            "this ranker has no separate backbone", where=f"{where}.options.base",
            cure="remove base: it is for adapters that python -m training wrote",
        )  # fmt: skip
    if (folder / "adapter_config.json").is_file():
        _require(["peft"], where)


def _require(packages: Collection[str], where: str) -> None:
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            "this ranker needs a package that is not installed: " + ", ".join(missing), where=where,
            cure="pip install " + " ".join(missing),
        )  # fmt: skip
