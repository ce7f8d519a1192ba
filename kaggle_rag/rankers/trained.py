"""A ranker that was trained: any backbone, full weights or an adapter, in the form it learnt."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kaggle_rag.ensemble import Probabilities, softmax
from kaggle_rag.errors import CheckpointError, ConfigError
from kaggle_rag.limits import release
from kaggle_rag.models.card import CARD, RankerCard
from kaggle_rag.models.checkpoints import attached, resolve
from kaggle_rag.models.devices import PRECISIONS, device_of, half_of
from kaggle_rag.models.features import Feature, Item
from kaggle_rag.models.forms import form_of
from kaggle_rag.models.layouts import Writer
from kaggle_rag.progress import progress
from kaggle_rag.questions import Questions
from kaggle_rag.retrieval.contexts import QuestionContexts

if TYPE_CHECKING:
    from kaggle_rag.models.loading import Backbone

# Padded tokens in one forward pass where the settings do not say.
_TOKENS = {"cpu": 2_048, "cuda": 16_384}


class TrainedRanker:
    """Probabilities of a folder that ``python -m training`` wrote, or of a checkpoint trained elsewhere.

    Parameters
    ----------
    folder : the folder, or a name that resolves to it (an attached input).
    form : of a checkpoint without ``ranker.json``, whose rows of ``max_tokens`` are then laid out as this
        form's own; a folder with one knows its form.
    base : where an adapter's backbone lies on this machine (default: the name it was trained by).
    device : ``"cuda"``, ``"cpu"``; by default CUDA where there is one.
    precision : ``fp32``, ``fp16``, ``bf16``; by default the half precision a GPU has, fp32 on a CPU.
    chunks : snippets of a context that are read, which may be more than in training (0: all that fit).
    max_tokens : longest row read (default: that of training).
    batch_tokens : padded tokens in one forward pass.
    """

    def __init__(
        self,
        folder: str,
        base: str | None = None,
        device: str | None = None,
        precision: str | None = None,
        chunks: int | None = None,
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
        form: str | None = None,
    ) -> None:
        self.folder = located(folder)
        self.bare = not (self.folder / CARD).exists() and form is not None
        self.card = _bare_card(self.folder, form, max_tokens) if self.bare else RankerCard.read(self.folder)
        if form not in (None, self.card.form):
            raise ConfigError(
                f"this ranker answers in the form {self.card.form!r}",
                where="rankers.options.form",
                cure="leave form out: it is for checkpoints without " + CARD,
            )
        self.base = base
        self._device_name, self._precision_name = device and device_of(device), precision
        if precision not in (None, *PRECISIONS):
            raise ConfigError(f"no precision {precision!r}", expected="one of " + ", ".join(PRECISIONS))
        self.chunks = self.card.chunks if chunks is None else chunks
        self.max_tokens = max_tokens or self.card.max_tokens
        self.batch_tokens = batch_tokens
        self.notes: Sequence[str] = ()
        self._backbone: Backbone | None = None

    @functools.cached_property
    def device(self) -> str:
        """Found when it is needed: to ask for a GPU imports torch, for which no mistake need wait."""
        return device_of(self._device_name)

    @functools.cached_property
    def precision(self) -> str:
        """The one asked for, or the half precision of the device."""
        return self._precision_name or half_of(self.device)

    def __enter__(self) -> TrainedRanker:
        from kaggle_rag.models.loading import load_ranker, load_whole

        where = {"device": self.device, "precision": self.precision}
        if self.bare:
            self._backbone = load_whole(self.folder, self.card, **where)
        else:
            _, self._backbone = load_ranker(self.folder, base=self.base, **where)
        self._backbone.model.eval()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._backbone = None
        release()

    def probabilities(
        self, questions: Questions, contexts: Sequence[QuestionContexts] | None
    ) -> Probabilities:
        """See `Ranker.probabilities`: a softmax over the logits of the form."""
        if self._backbone is None:
            raise RuntimeError("the ranker is used outside of its with block")
        items = items_of(questions, contexts, self.chunks, passages=self._backbone.form.embeds)
        writer = Writer(self._backbone.tokenizer, self.card.layout, self.max_tokens)
        logits = score(self._backbone, writer, items, self.batch_tokens)
        if lost := int((~np.isfinite(logits)).any(axis=1).sum()):
            raise CheckpointError(
                f"the answers to {lost:,} of {len(items):,} questions are no numbers in {self.precision}",
                where=self.folder,
                cure="set rankers.options.precision: fp32 (or bf16, where the GPU has it)",
            )
        self.notes = (
            [f"{writer.shortened:,} rows lost words of the question: max_tokens {self.max_tokens} is too few"]
            if writer.shortened
            else []
        )
        return softmax(logits, questions.present)


def located(name: str) -> Path:
    """The folder a name stands for: a ranker here or among the attached inputs, or a checkpoint."""
    if (folder := Path(name).expanduser()).is_dir():
        return folder
    if (found := next(attached(name, CARD), None)) is not None:
        return found
    try:
        return resolve(name).path
    except CheckpointError as error:
        raise CheckpointError(
            f"no ranker {name!r} on this machine",
            where="rankers.options.folder",
            expected=f"a folder with {CARD}, as python -m training writes it, here or among the inputs",
            cure="check the path, or attach the folder as an input",
        ) from error


def _bare_card(folder: Path, form: str | None, max_tokens: int | None) -> RankerCard:
    """What a checkpoint that was trained elsewhere does not say itself."""
    if not max_tokens:
        raise ConfigError(
            f"a checkpoint without {CARD} needs max_tokens",
            where="rankers.options",
            expected="the longest row it was trained to read, in tokens",
        )
    from kaggle_rag.models.loading import family_in

    layout = form_of(str(form), family_in(str(folder))).layout
    return RankerCard(str(form), layout, max_tokens, chunks=0, labels=1, base="", base_sha256="", nf4=False)


def score(
    backbone: Backbone,
    writer: Writer,
    items: Sequence[Item],
    batch_tokens: int | None = None,
    asked: Any = None,
    *,
    quiet: bool = False,
) -> npt.NDArray[np.float64]:
    """Logits of each question's options, ``(n, k)``, in batches of questions of like length.

    ``asked`` is the wrapper of a model that lies divided over several devices.
    """
    import torch

    model = asked if asked is not None else backbone.model
    device = backbone.model.device
    collate = backbone.collator()
    features = [backbone.form.features(writer, item) for item in items]
    tokens = batch_tokens or _TOKENS[device.type]
    out = np.full(
        (len(items), max(len(item.options) for item in items)), np.finfo(np.float32).min, np.float64
    )
    with progress(len(items), "rank", "question", disable=quiet or len(items) < 100) as bar:
        for rows in _batches(features, tokens):
            batch = collate([features[row] for row in rows])
            with torch.inference_mode():
                logits = backbone.form.logits(model, {k: v.to(device) for k, v in batch.items()})
            out[rows, : logits.shape[1]] = logits.cpu().numpy()
            bar.update(len(rows))
    return out


def items_of(
    questions: Questions,
    contexts: Sequence[QuestionContexts] | None,
    chunks: int,
    *,
    passages: bool = False,
) -> list[Item]:
    """The questions as models meet them, each option with the first ``chunks`` snippets of its context.

    With ``passages`` these are the passages that were found, without their neighbours and titles: what is
    embedded alone is compared best when it says one thing.
    """
    return [
        Item(
            prompt,
            options,
            tuple(_snippets(found, place, chunks, passages) for place in range(len(options))),
            int(answer),
        )
        for prompt, options, answer, found in zip(
            questions.prompts, questions.options, questions.answers, contexts or repeat(None)
        )
    ]


def _snippets(found: QuestionContexts | None, place: int, chunks: int, passages: bool) -> str:
    context = found.of(place) if found else None
    if context is None:
        return ""
    alone = [" ".join(e.text.split()) for e in context.evidence] if passages else []
    lines = alone or context.text.split("\n")
    return "\n".join(lines[: chunks or None])


def _batches(features: Sequence[Feature], tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Questions of like length, the longest first, of at most so many padded tokens (or one question)."""
    long = np.array([max(map(len, feature["input_ids"])) for feature in features])
    rows = np.array([len(feature["input_ids"]) for feature in features])
    order = np.argsort(-long, kind="stable")
    begin = 0
    while begin < len(order):
        sizes = (
            np.maximum.accumulate(rows[order[begin:]])
            * long[order[begin]]
            * np.arange(1, len(order) - begin + 1)
        )
        count = max(1, int(np.searchsorted(sizes, tokens, side="right")))
        yield order[begin : begin + count]
        begin += count
