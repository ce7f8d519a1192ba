"""The interface of every form of answering: rows of a question, batches, and a score per option."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import logsumexp

from kaggle_rag.models.answering.collators import DataCollatorForMultipleChoice
from kaggle_rag.models.answering.item import Feature, Item
from kaggle_rag.models.layouts import Layout
from kaggle_rag.models.packing import inner
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.console import progress, say
from kaggle_rag.runtime.errors import LimitError
from kaggle_rag.runtime.limits import release

Batch = dict[str, torch.Tensor]
# Default number of padded tokens in one forward pass.
TOKENS = {"cpu": 2_048, "cuda": 16_384}
# Tokens below which a smaller slice saves no memory that matters.
_LEAST = 64
# Keys of a batch that no backbone reads.
NOT_INPUTS = ("present", "labels", "weights", "numbers", "soft", "teacher_vectors", "rivals")


class ScoringBackbone(Protocol):
    """What is used of `kaggle_rag.models.loading.Backbone`: the model, and the collator of its batches."""

    @property
    def model(self) -> Any: ...

    def collator(self) -> DataCollatorForMultipleChoice: ...


class AnswerForm(ABC):
    """A form of answering for a family of backbones.

    Training and inference call the same methods: `encode` and `collate` make batches, `logits` scores one.
    Inference calls `score`, which takes questions: a form that shares a prefix between options, or caches
    an encoder's output, overrides it.

    Attributes
    ----------
    auto : the transformers class that loads the backbone.
    layout : the template of a row, unless the settings name another.
    loss : its training loss by default.
    collator : batches features.
    own_keys : keys of a batch that the form itself reads, besides those that the backbone reads.
    """

    auto: str
    layout: Layout
    loss: str = "cross-entropy"
    collator: ClassVar[type[DataCollatorForMultipleChoice]] = DataCollatorForMultipleChoice
    own_keys: ClassVar[tuple[str, ...]] = ()
    has_head: bool = False
    """Whether a head is trained on top of the backbone (a language model answers in words)."""
    embeds: bool = False
    """Whether the backbone embeds texts; its pooler, if any, is not used."""
    sliced: bool = False
    """Whether a question that is longer than a batch can be asked in slices."""
    option_vector: str = ""
    """What an option's vector is (`kaggle_rag.models.answering.option_vectors`); empty: it has none."""

    def make_collator(
        self, tokenizer: Any, multiple: int | None, positions: bool
    ) -> DataCollatorForMultipleChoice:
        """The collator of its batches, see `DataCollatorForMultipleChoice`."""
        return self.collator(tokenizer, multiple, positions)

    @abstractmethod
    def encode(self, writer: Writer, item: Item) -> Feature:
        """The rows of token ids of one question."""

    @abstractmethod
    def logits(self, model: Any, batch: Batch) -> torch.Tensor:
        """``(batch, options)`` float32, absent options at the lowest float; a softmax gives probabilities."""

    def logits_in_slices(self, model: Any, batch: Batch, tokens: int) -> torch.Tensor:
        """The same, in calls of at most ``tokens`` tokens where `sliced` says that there are such."""
        return self.logits(model, batch)

    def score(
        self,
        backbone: ScoringBackbone,
        writer: Writer,
        items: Sequence[Item],
        batch_tokens: int | None = None,
        wrapper: Any = None,
        *,
        rotations: int = 1,
        quiet: bool = False,
    ) -> npt.NDArray[np.float64]:
        """Logits of each question's options, ``(n, k)``, in batches of questions of similar length.

        Parameters
        ----------
        batch_tokens : padded tokens in one forward pass (default: 2,048 on a CPU, 16,384 on a GPU); a
            question that is longer is asked in slices if the form can do that.
        wrapper : used instead of the backbone's model, if that is wrapped for several devices.
        rotations : orders of the options in which each question is asked, see `turned_back`.
        """
        model = wrapper if wrapper is not None else backbone.model
        device = backbone.model.device
        asked = Asked(self, backbone.collator(), writer, items, rotations)
        with progress(len(asked), "rank", "question", disable=quiet or len(items) < 100) as bar:
            for rows, batch in asked.batches(batch_tokens or TOKENS[device.type]):
                try:
                    with torch.inference_mode():
                        here = {key: value.to(device) for key, value in batch.items()}
                        logits = (
                            self.logits_in_slices(model, here, asked.tokens) if asked.is_too_long
                            else self.logits(model, here)
                        )  # fmt: skip
                except torch.OutOfMemoryError:
                    asked.halve()
                    continue
                asked.answer(rows, logits)
                bar.update(len(rows))
        return asked.scores()

    def inputs(self, batch: Batch) -> Batch:
        """The part of a batch that the backbone reads, ``(batch, rows, tokens)``."""
        return {key: value for key, value in batch.items() if key not in (*NOT_INPUTS, *self.own_keys)}

    def flat(self, batch: Batch) -> Batch:
        """The same, with the rows of all questions stacked, ``(batch x rows, tokens)``."""
        return {key: value.flatten(0, 1) for key, value in self.inputs(batch).items()}


class Asked:
    """Questions in every order of their options: batches for a model, and the table of its logits.

    ``len()`` counts a question once an order.

    Attributes
    ----------
    tokens : how many, padded, a batch may have.
    is_too_long : whether the batch at hand is one unit of more, which is to be asked in slices.
    """

    def __init__(
        self, form: AnswerForm, collate: DataCollatorForMultipleChoice, writer: Writer,
        items: Sequence[Item], rotations: int,
    ) -> None:  # fmt: skip
        features = [
            [form.encode(writer, item.in_order(item.turned(turn))) for turn in range(rotations)]
            for item in items
        ]
        self.items, self._collate, self._units = items, collate, collate.split(features)
        self.tokens, self.is_too_long, self._can_be_sliced = 0, False, form.sliced
        # The row of a unit's first question among all questions in all orders.
        self._firsts = np.cumsum([0, *map(len, self._units)])
        widest = max(len(item.options) for item in items)
        lowest = np.finfo(np.float32).min
        self._table = np.full((len(items), rotations, widest), lowest, np.float64)

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def batches(
        self, tokens: int, group: int | None = None
    ) -> Iterator[tuple[npt.NDArray[np.int64], Batch]]:
        """Batches of at most ``tokens`` padded tokens (or one unit), and the rows of their questions.

        Units are sorted by length; with ``group`` only so many among themselves, one group after the other.
        """
        self._sizes = self._collate.sizes(self._units)
        self.tokens, self._queue = tokens, deque[npt.NDArray[np.int64]]()
        for start in range(0, len(self._sizes), group or len(self._sizes)):
            some = self._sizes[start : start + (group or len(self._sizes))]
            self._queue += [start + chosen for chosen in by_length(some, tokens)]
        while self._queue:
            chosen = self._current = self._queue.popleft()
            rows, length = self._sizes[chosen[0]]
            self.is_too_long = self._can_be_sliced and len(chosen) == 1 and rows * length > self.tokens
            questions = np.concatenate([np.arange(self._firsts[n], self._firsts[n + 1]) for n in chosen])
            yield questions, self._collate.units([self._units[n] for n in chosen])

    def halve(self) -> None:
        """Ask the batch before, which did not fit into memory, and all after it in halves.

        Raises
        ------
        LimitError : the batch is one question that cannot be asked in slices, or in no smaller ones.
        """
        if len(self._current) == 1 and (not self._can_be_sliced or self.tokens <= _LEAST):
            raise too_large()
        release()
        left = np.concatenate([self._current, *self._queue])
        rows, length = self._sizes[self._current[0]]
        # Half of what was too much, which may have been less than was allowed.
        self.tokens = min(self.tokens, rows * length * len(self._current)) // 2
        say(f"note: out of memory: asking in batches of {self.tokens:,} tokens")
        sizes = [self._sizes[n] for n in left]
        self._queue = deque(left[chosen] for chosen in by_length(sizes, self.tokens))

    def answer(self, rows: npt.NDArray[np.int64], logits: torch.Tensor) -> None:
        """Keep the logits of a batch, ``(len(rows), options)``."""
        self._table.reshape(len(self), -1)[rows, : logits.shape[1]] = logits.cpu().numpy()

    def scores(self) -> npt.NDArray[np.float64]:
        """``(n, k)``, see `turned_back`."""
        return turned_back(self._table, self.items)


def too_large() -> LimitError:
    """The error where even one question is too much."""
    return LimitError(
        "one question does not fit into memory",
        cure="lower max_tokens or snippets (of a solution: in rankers.options)",
    )


def by_length(sizes: Sequence[tuple[int, int]], tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Units of similar length, longest first, of at most ``tokens`` padded tokens (or one unit).

    ``sizes`` are the rows of each unit, and the length of its longest.
    """
    rows, lengths = np.array(sizes, dtype=np.int64).T
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        padded = (
            np.maximum.accumulate(rows[order[start:]])
            * lengths[order[start]]
            * np.arange(1, len(order) - start + 1)
        )
        count = max(1, int(np.searchsorted(padded, tokens, side="right")))
        yield order[start : start + count]
        start += count


def turned_back(logits: npt.NDArray[np.float64], items: Sequence[Item]) -> npt.NDArray[np.float64]:
    """Logits in several orders of the options, ``(n, rotations, k)``, to one ``(n, k)``.

    Of several orders it is the logarithm of the mean probability: a position that a model favours (Zheng
    et al. 2024, https://arxiv.org/abs/2309.03882) then favours every option in turn. Where a question has
    fewer options than orders, those that would favour some of them once more are left out.
    """
    turns = logits.shape[1]
    if turns == 1:
        return logits[:, 0]
    present = np.array([[*item.present, *[False] * (logits.shape[2] - len(item.present))] for item in items])
    out = np.full_like(logits, -np.inf)
    for row, item in enumerate(items):
        options = len(item.places)
        for turn in range(turns - turns % options if turns > options else turns):
            out[row, turn, item.turned(turn)] = logits[row, turn, : len(item.options)]
    out = np.where(present[:, None], out, -np.inf)
    with np.errstate(invalid="ignore"):
        likely = np.where(np.isneginf(out), out, out - logsumexp(out, axis=2, keepdims=True))
    # Every order that counts has probabilities that sum to 1.
    mean = logsumexp(likely, axis=1)
    mean -= logsumexp(mean, axis=1, keepdims=True)
    return np.where(present, mean, np.finfo(np.float32).min)


def masked(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """``(batch, options)`` float32 with absent options at the lowest float."""
    logits = logits.float()
    return logits.masked_fill(~batch["present"], torch.finfo(logits.dtype).min)


def token_likelihood(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """``(rows, tokens, vocabulary)`` logits to the log-probability of each of ``ids``, ``(rows, tokens)``."""
    return logits.gather(2, ids[..., None])[..., 0] - logits.logsumexp(2)


def mean_likelihood(likely: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """``(b, k, tokens)`` log-probabilities to their mean over each option's ``own`` tokens, ``(b, k)``.

    The mean, because a sum penalizes long options (Brown et al. 2020, section 2.4).
    """
    return (likely * own).sum(2) / own.sum(2).clamp(min=1)


def start_token(model: Any) -> int:
    """The token that a decoder starts with."""
    return int(inner(model).config.decoder_start_token_id)


def answer_ids(writer: Writer, item: Item, place: int) -> list[int]:
    """The tokens with which a decoder chooses an option."""
    text = writer.answer(item.prompt, item.options, place).strip()
    return list(writer.tokenizer(text_target=text, verbose=False)["input_ids"])
