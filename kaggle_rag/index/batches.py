"""Texts to batches of token ids: of similar length, with limited padded tokens, prepared ahead."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Batch = tuple[Rows, dict[str, Any]]
Item = TypeVar("Item")
Result = TypeVar("Result")

# Texts tokenized at once, while the model reads the previous ones: only the first slice is waited for.
_SLICE = 2_048
# A slice holds several batches, or its few long texts would pad all the others.
_TOKENS_A_TEXT = 4
# More than the longest word that is a single token (to WordPiece, words over 100 are unknown).
_CHARACTERS_A_TOKEN = 128
_SURROGATE = re.compile("[\ud800-\udfff]")


def without_surrogates(text: str) -> str:
    """Replace half surrogate pairs (broken JSON), which a tokenizer rejects."""
    return _SURROGATE.sub("\ufffd", text)


def batches(
    texts: Sequence[str], tokenizer: Any, *, longest: int | None, budget: int
) -> Generator[Batch, None, None]:
    """Batches of texts of similar length, the longest first: their rows, and a model's inputs.

    Parameters
    ----------
    longest : texts are truncated to this many tokens.
    budget : maximum of padded tokens in a batch, unless one text alone has more.
    """
    slice_rows = max(_SLICE, budget // _TOKENS_A_TEXT)
    by_characters = np.argsort([-len(text) for text in texts], kind="stable")

    def prepared(start: int) -> list[Batch]:
        rows = by_characters[start : start + slice_rows]
        return list(_cut(rows, [texts[row] for row in rows], tokenizer, longest, budget))

    # The thread also pads: a fast tokenizer must not be used by two at once.
    for slice_of in ahead(prepared, range(0, len(texts), slice_rows)):
        yield from slice_of


def _cut(
    rows: Rows, texts: Sequence[str], tokenizer: Any, longest: int | None, budget: int
) -> Generator[Batch, None, None]:
    # A tokenizer reads a whole text before it truncates it, even a book on one line.
    limit = longest * _CHARACTERS_A_TOKEN if longest else None
    ids = tokenizer(
        [without_surrogates(text[:limit]) for text in texts],
        truncation=longest is not None, max_length=longest, return_attention_mask=False,
    )["input_ids"]  # fmt: skip
    for chosen in of_like_length([len(row) for row in ids], budget):
        padded = tokenizer.pad({"input_ids": [ids[row] for row in chosen]}, return_tensors="pt")
        yield rows[chosen], dict(padded)


def of_like_length(lengths: Sequence[int], budget: int) -> Generator[Rows, None, None]:
    """Rows of similar length, longest first, of at most ``budget`` padded tokens together (or one row)."""
    order = np.argsort([-length for length in lengths], kind="stable")
    begin = 0
    while begin < len(order):
        chosen = order[begin : begin + max(1, budget // max(1, lengths[order[begin]]))]
        begin += len(chosen)
        yield chosen


def ahead(make: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """The result of ``make`` for each item, computed in a thread while the one before is used.

    Only one is computed ahead. An error of ``make`` is raised here; if the generator is closed
    early, the thread ends after its current item.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        following: Future[Result] | None = None
        for item in items:
            previous, following = following, thread.submit(make, item)
            if previous:
                yield previous.result()
        if following:
            yield following.result()
