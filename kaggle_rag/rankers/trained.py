"""A trained ranker: any backbone, full weights or an adapter, in the form it was trained in."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.contexts import QuestionContexts
from kaggle_rag.data.probabilities import Probabilities, softmax
from kaggle_rag.data.questions import Questions
from kaggle_rag.models.answering.item import Item
from kaggle_rag.models.card import CARD, RankerCard
from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.models.devices import (
    device_of,
    in_float32,
    precision_of,
    require_attention,
    require_precision,
)
from kaggle_rag.models.writer import Writer
from kaggle_rag.rankers.base import Answered, Note, Workspace
from kaggle_rag.rankers.folders import bare_card, located, require_positions
from kaggle_rag.rankers.mixing import mixing_of
from kaggle_rag.rankers.needs import need_in_memory
from kaggle_rag.rankers.notes import notes_of
from kaggle_rag.rankers.options import require_counts, require_switches
from kaggle_rag.runtime.errors import CheckpointError, ConfigError
from kaggle_rag.runtime.limits import Need, release
from kaggle_rag.runtime.words import counted

if TYPE_CHECKING:
    from kaggle_rag.models.loading import Backbone
    from kaggle_rag.models.streaming.model import StreamedModel


_NO_ROOM = "there is no memory for the weights in fp32, so they are left to other rankers"


class TrainedRanker:
    """Probabilities from a folder that ``python -m training`` wrote, or a checkpoint trained elsewhere.

    Parameters
    ----------
    folder : the folder, or a name that resolves to it (an attached input).
    base : location of an adapter's backbone on this machine (default: its name in training).
    device : ``"cuda"``, ``"cpu"``; by default CUDA if available.
    precision : ``auto``, ``fp32``, ``fp16``, ``bf16``; by default (``auto``) the GPU's half precision, or
        fp32 on a CPU.
    snippets : number to read per context, which may be more than in training (0: all that fit).
    max_tokens : longest row (default: that of training).
    batch_tokens : padded tokens in one forward pass.
    form : form of a checkpoint without ``ranker.json``; a folder with one knows its form.
    template : layout that such a checkpoint's rows of ``max_tokens`` had in training: a key of
        `kaggle_rag.models.layouts.PRESETS`, or fields of `Layout` (default: the form's own layout).
    load_in_4bit : keep the backbone in 4-bit NormalFloat, whatever it was trained in.
    packed : a decoder reads context and question once for all options; the answers are the same.
    attention : of packed rows, one of `kaggle_rag.models.devices.ATTENTIONS`; the answers are the same.
    rotations : orders of the options in which each question is asked and averaged.
    marginal : ``kind`` (``sequence``, ``token``, ``none``) and ``temperature``: snippets are read apart, and
        mixed by the retriever's scores (default: as in training).
    streamed : keep one layer at a time in memory, read from the files once for all questions: for decoders
        larger than the memory.
    workspace : what the run leaves to a streamed model.
    """

    def __init__(
        self,
        folder: str,
        base: str | None = None,
        device: str | None = None,
        precision: str | None = None,
        snippets: int | None = None,
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
        form: str | None = None,
        template: str | Mapping[str, Any] | None = None,
        load_in_4bit: bool = False,
        packed: bool = True,
        attention: str = "auto",
        rotations: int = 1,
        marginal: Mapping[str, Any] | None = None,
        streamed: bool = False,
        workspace: Workspace | None = None,
    ) -> None:
        self.folder = located(folder)
        self.base, self.batch_tokens, self.form = base, batch_tokens, form
        self.template, self.load_in_4bit, self.packed = template, load_in_4bit, packed
        self.attention, self.rotations, self.streamed = attention, rotations, streamed
        self.workspace = workspace or Workspace()
        self.bare = not (self.folder / CARD).exists() and form is not None
        self._require_fitting()
        require_counts(max_tokens=(max_tokens, 1), batch_tokens=(batch_tokens, 1))
        require_counts(snippets=(snippets, 0), rotations=(rotations, 1))
        self.card = (
            bare_card(self.folder, str(form), template, max_tokens) if self.bare
            else RankerCard.read(self.folder)
        )  # fmt: skip
        if form not in (None, self.card.form):
            raise ConfigError(
                f"this ranker answers in the form {self.card.form!r}",
                where="rankers.options.form",
                cure="remove form: it is for checkpoints without " + CARD,
            )
        self.mixing = mixing_of(self.card.marginal, marginal, streamed=streamed)
        if max_tokens:
            require_positions(self.backbone_folder, max_tokens)
        require_precision(precision, "rankers.options.precision")
        require_attention(attention, "rankers.options.attention")
        self._given = (device and device_of(device), precision)
        self.snippets = self.card.snippets if snippets is None else snippets
        self.max_tokens = max_tokens or self.card.max_tokens
        self.notes: Sequence[Note] = ()
        self._backbone: Backbone | None = None
        self._stream: StreamedModel | None = None
        self.unpacked = ""
        """Why each option is read in a separate row, if packing was wanted."""

    # Resolved when needed: looking for a GPU imports torch, and no error message should wait for that.
    @functools.cached_property
    def device(self) -> str:
        """The device it runs on."""
        return self._given[0] or device_of(None)

    @functools.cached_property
    def precision(self) -> str:
        """The precision it computes in."""
        return precision_of(self._given[1], self.device, "rankers.options.precision")

    def _require_fitting(self) -> None:
        """Refuse settings that have no meaning here."""
        if self.template and not self.bare:
            raise ConfigError(
                "this ranker knows the layout it was trained with",
                where="rankers.options.template",
                cure=f"remove template: it is for checkpoints without {CARD}, with form and max_tokens",
            )
        require_switches(load_in_4bit=self.load_in_4bit, packed=self.packed, streamed=self.streamed)
        if self.load_in_4bit:
            from kaggle_rag.models.loading import require_4bit

            require_4bit()

    @property
    def backbone_folder(self) -> Path:
        """Where the weights are that an adapter belongs to, or all of them."""
        adapted = self.card.base and not self.bare
        return resolve(self.base or self.card.base).path if adapted else self.folder

    @property
    def reads_once(self) -> bool:
        """Whether the weights are read for every call, and so best for all questions together."""
        return self.streamed

    def __enter__(self) -> TrainedRanker:
        if self.streamed:
            from kaggle_rag.rankers.streamed import room_within

            self._stream, self._tokenizer = self._unread
            self._stream.room = room_within(self._stream, self.workspace, self.max_tokens, self.batch_tokens)
            return self
        from kaggle_rag.models.loading import load_ranker, load_whole, with_packing

        where: dict[str, Any] = {
            "device": self.device, "precision": self.precision, "nf4": self.load_in_4bit
        }  # fmt: skip
        if self.bare:
            self._backbone = load_whole(self.folder, self.card, **where)
        else:
            _, self._backbone = load_ranker(self.folder, base=self.base, **where)
        self._backbone.model.eval()
        if self.packed:
            self._backbone, self.unpacked = with_packing(self._backbone, self.attention)
        if self.mixing:
            from kaggle_rag.models.answering.marginal import Mixing, marginal

            self._backbone = self._backbone._replace(
                form=marginal(self._backbone.form, Mixing(**self.mixing))
            )
        self._tokenizer = self._backbone.tokenizer
        return self

    @functools.cached_property
    def _unread(self) -> tuple[StreamedModel, Any]:
        """The streamed model, of which no weights are read, and its tokenizer."""
        from kaggle_rag.rankers.streamed import open_streamed

        return open_streamed(
            self.folder, self.card, base=self.base, device=self.device, precision=self.precision,
            nf4=self.load_in_4bit,
        )  # fmt: skip

    def need(self) -> Need:
        """The memory that answering needs, by the headers of the files; nothing is loaded.

        Raises
        ------
        CheckpointError : an adapter's backbone is not on this machine, or a file is damaged.
        """
        if self.streamed:
            from kaggle_rag.rankers.streamed import need_of

            return need_of(self._unread[0], self.max_tokens, self.batch_tokens)
        return need_in_memory(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._backbone, self._stream = None, None
        self.__dict__.pop("_unread", None)
        release()

    def probabilities(
        self, questions: Questions, contexts: Sequence[QuestionContexts | None] | None
    ) -> Probabilities:
        """See `Ranker.probabilities`: a softmax over the logits of the form.

        NaN in the rows of questions that overflow in half precision, where float32 has no room.
        """
        writer, items = self._asked(questions, contexts)
        logits = self._scores(writer, items)
        self.notes = notes_of(self, writer, items)
        again = np.flatnonzero((~np.isfinite(logits)).any(axis=1))
        whole = self._backbone is not None and not (self.load_in_4bit or self.card.nf4)
        there_is_room = True
        if len(again) and self._backbone is not None and whole and self.precision != "fp32":
            found = self._in_float32(writer, [items[row] for row in again])
            there_is_room = found is not None
            logits[again] = np.nan if found is None else found
        lost = np.asarray((~np.isfinite(logits)).any(axis=1))
        if lost.any() and (there_is_room or lost.all()):
            raise self._no_numbers(int(lost.sum()), len(items))
        if len(again):
            how = "answered in fp32" if there_is_room else _NO_ROOM
            self.notes = [
                *self.notes, Note(f"overflowed in {self.precision}: {how}", len(again), "question")
            ]  # fmt: skip
        table = softmax(np.where(lost[:, None], 0.0, logits), questions.present)
        table[lost] = np.nan
        return table

    def _in_float32(self, writer: Writer, items: Sequence[Item]) -> npt.NDArray[np.float64] | None:
        """The logits of what overflowed; ``None`` where the weights do not fit in that precision."""
        import torch

        assert self._backbone is not None
        try:
            with in_float32(self._backbone.model):
                return self._scores(writer, items)
        except torch.OutOfMemoryError:
            release()
            return None

    def within(
        self, questions: Questions, contexts: Sequence[QuestionContexts | None] | None,
        left: Callable[[], float],
    ) -> Answered:  # fmt: skip
        """See `AnswersWithin.within`; questions that overflow stay without an answer."""
        writer, items = self._asked(questions, contexts)
        assert self._stream is not None
        logits, asked = self._stream.score_within(
            writer, items, left, self.batch_tokens, rotations=self.rotations
        )
        answered = asked & np.isfinite(logits).all(axis=1)
        lost = int((asked & ~answered).sum())
        if lost and not answered.any():
            raise self._no_numbers(lost, len(items))
        self.notes = notes_of(self, writer, items)
        if lost:
            overflowed = f"overflowed in {self.precision}: left to other rankers"
            self.notes = [*self.notes, Note(overflowed, lost, "question")]
        table = np.full(questions.present.shape, np.nan, np.float32)
        table[answered] = softmax(logits[answered], questions.present[answered])
        return Answered(table, asked)

    def forecast(self, questions: int) -> float:
        """See `AnswersWithin.forecast`."""
        assert self._stream is not None
        return self._stream.forecast(questions)

    def _asked(
        self, questions: Questions, contexts: Sequence[QuestionContexts | None] | None
    ) -> tuple[Writer, list[Item]]:
        """The questions as the model meets them, and what writes its rows."""
        if self._backbone is None and self._stream is None:
            raise RuntimeError("the ranker is used outside its with block")
        passages = self._backbone is not None and self._backbone.form.embeds
        rows = zip(questions, contexts or itertools.repeat(None))
        items = [Item.of(*row, self.snippets, passages=passages) for row in rows]
        return Writer(self._tokenizer, self.card.layout, self.max_tokens), items

    def _no_numbers(self, lost: int, count: int) -> CheckpointError:
        return CheckpointError(
            f"the answers to {lost:,} of {counted(count, 'question')} are not numbers",
            where=self.folder,
            cure="some of its weights are not numbers: copy the folder again, or retrain it",
        )

    def _scores(self, writer: Writer, items: Sequence[Item]) -> npt.NDArray[np.float64]:
        """Logits ``(n, k)``."""
        tokens, turns = self.batch_tokens, self.rotations
        if self._stream is not None:
            return self._stream.score(writer, items, tokens, rotations=turns)
        assert self._backbone is not None
        return self._backbone.form.score(self._backbone, writer, items, tokens, rotations=turns)


