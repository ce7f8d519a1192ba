"""Shards of passages to vectors: each text once, except those that an older index holds."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.index.manifest import EncoderCard
from kaggle_rag.index.vectors import PRECISIONS, Vectors, VectorWriter
from kaggle_rag.runtime.errors import ArtifactError
from wiki_index.plan import Plan
from wiki_index.steps.split import shard_texts, texts_of

# Forms of stored vectors, from the finest to the coarsest.
_FINEST = list(PRECISIONS)


class ShardEncoder:
    """Encodes shards of passages into their place in the file of vectors."""

    def __init__(self, plan: Plan, name: str, writer: VectorWriter, on_rows: Callable[[int], object]) -> None:
        self._plan, self._writer, self._on_rows = plan, writer, on_rows
        reused = older(plan, name, writer.layout.precision)
        self._encoder, self._old = plan.encoders[name], OldVectors(*reused) if reused else None

    def write(self, number: int, start: int) -> None:
        """Encode one shard, whose first row is ``start``."""
        texts = shard_texts(self._plan, number)
        self._writer.write(start, encode_texts(self._encoder, texts, self._old, self._on_rows))


def encode_texts(
    encoder: Encoder, texts: Sequence[str], old: OldVectors | None, on_rows: Callable[[int], object]
) -> Vectors:
    """Vectors ``(n, dim)`` of texts; equal texts are encoded once, known ones not at all."""
    positions = {text: position for position, text in enumerate(dict.fromkeys(texts))}
    unique = list(positions)
    vectors = np.empty((len(unique), encoder.card.dim), dtype=np.float32)
    old_rows = old.find(unique) if old else np.full(len(unique), -1)
    if old:
        vectors[old_rows >= 0] = old.vectors(old_rows[old_rows >= 0])
    missing = np.flatnonzero(old_rows < 0)
    on_rows(len(texts) - len(missing))
    vectors[missing] = encoder.encode_for_index([unique[position] for position in missing], on_rows=on_rows)
    return vectors[[positions[text] for text in texts]]


def older(plan: Plan, name: str, precision: str | None = None) -> tuple[Index, str] | None:
    """The index of ``--reuse``, and its retriever whose vectors the same encoder made.

    A vector is copied from its stored form into the same form or a coarser one: fp16 to fp16 and int8 to
    int8 (by the same step) change no byte; otherwise the error is the rounding of the finer form, which is
    far below that of the coarser.

    Parameters
    ----------
    precision : what the new vectors will be stored in; ``None`` if that is not known yet.

    Raises
    ------
    ArtifactError : it has none; the message says why each of its retrievers is unsuitable.
    """
    if plan.reuse is None:
        return None
    index = Index(plan.reuse)
    card = plan.encoders[name].card
    # The same weights by another name are the same encoder.
    same = {
        old: dense.card.vectors
        for old, dense in index.dense.items()
        if dataclasses.replace(dense.card.encoder, name=card.name) == card
    }
    for old in sorted(same, key=lambda each: _FINEST.index(same[each])):
        if precision is None or _FINEST.index(same[old]) <= _FINEST.index(precision):
            return index, old
    if not same:
        cards = {old: dense.card.encoder for old, dense in index.dense.items()}
        reasons = "; ".join(f"{old}: {_differing(old_card, card)}" for old, old_card in cards.items())
        raise ArtifactError(
            f"no vectors by {card.name} to reuse ({reasons})", where=plan.reuse,
            expected="an index by the same encoder, prompts, length and precision",
            cure=_precision_to_pass([*cards.values()], card) or "leave --reuse out, or pass another index",
        )  # fmt: skip
    stored = min(same.values(), key=_FINEST.index)
    raise ArtifactError(
        f"its vectors are stored in {stored}, which is coarser than the {precision} of the new index",
        where=plan.reuse,
        cure=f"pass --vectors {stored}, or leave --reuse out",
    )


def _precision_to_pass(stored: Sequence[EncoderCard], card: EncoderCard) -> str:
    """The flag that helps, where an index by the same weights differs by its precision alone; else empty."""
    found = [old.precision for old in stored if _differing(old, card) == "precision"]
    return f"pass --precision {found[0]}, or leave --reuse out" if found else ""


def _differing(old: EncoderCard, new: EncoderCard) -> str:
    """The fields in which two encoders differ."""
    fields = [each.name for each in dataclasses.fields(new) if each.name != "name"]
    return "different " + ", ".join(key for key in fields if getattr(old, key) != getattr(new, key))


class OldVectors:
    """The vectors of an older index by the content of their passages.

    64 bits of a hash find the row and the text itself confirms it, so that 120 million passages
    need 2 GB here and no two texts are ever confused.
    """

    def __init__(self, index: Index, name: str) -> None:
        self._index, self._dense = index, index.dense[name]
        self._with_title = index.manifest.title_in_text
        hashes = np.concatenate([_hashes(self._texts(number)) for number in self._shards()])
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def find(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """The row that holds each text, -1 if none does."""
        wanted = _hashes(texts)
        positions = np.minimum(np.searchsorted(self._hashes, wanted), len(self._hashes) - 1)
        rows = np.where(self._hashes[positions] == wanted, self._order[positions], -1)
        for number in map(int, np.flatnonzero(rows >= 0)):
            passage = self._index.passages[int(rows[number])]
            text = f"{passage.title} {passage.text}".strip() if self._with_title else passage.text
            if text != texts[number]:
                rows[number] = -1
        return rows

    def vectors(self, rows: npt.NDArray[np.int64]) -> Vectors:
        return self._dense.vectors(rows)

    def _shards(self) -> range:
        return range(len(self._index.manifest.shard_rows))

    def _texts(self, number: int) -> list[str]:
        return texts_of(self._index.passages.shard(number), self._with_title)


def _hashes(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype=np.uint64)
