"""Snippets read apart and mixed by the retriever, over any form: RAG-Sequence and RAG-Token.

Source: Lewis et al. 2020, Retrieval-augmented generation for knowledge-intensive NLP tasks, section 2.1,
https://arxiv.org/abs/2005.11401. There z is a retrieved passage, here a snippet of the question's context.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import log_softmax, logsumexp

from kaggle_rag.models.answering.base import NOT_INPUTS, AnswerForm, Batch, ScoringBackbone, masked
from kaggle_rag.models.answering.collators import DataCollatorForMultipleChoice
from kaggle_rag.models.answering.item import Feature, Item
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.errors import ConfigError

_LOWEST = float(np.finfo(np.float32).min)
# Keys of a batch that the form which is mixed does not know, and of a feature that are its question's.
_OWN = ("parts", "log_priors", *NOT_INPUTS)
_OF_QUESTION = ("labels", "weight", "rivals")


@dataclasses.dataclass(frozen=True)
class Mixing:
    """How snippets are mixed.

    Attributes
    ----------
    kind : a key of `KINDS`.
    temperature : of p(z | q), a softmax over the retriever's scores divided by it.
    """

    kind: str
    temperature: float

    @staticmethod
    def apart(item: Item) -> list[Item]:
        """The question once for each snippet: options with contexts of their own take the same rank each."""
        count = max(len(item.contexts[place]) for place in item.places)
        return [
            item._replace(contexts=tuple(context[rank : rank + 1] for context in item.contexts))
            for rank in range(max(1, count))
        ]

    def log_priors(self, parts: Sequence[Item]) -> npt.NDArray[np.float64]:
        """log p(z | q) of a question's parts, ``(z,)``; all alike where no scores are known."""
        scores = np.array([_score(part) for part in parts])
        known = np.isfinite(scores)
        if not known.all():
            # A file of an earlier version has no scores.
            scores = np.zeros(len(parts))
        return np.asarray(log_softmax(scores / self.temperature))


def _score(part: Item) -> float:
    """The mean score of the snippets that the options read; NaN if one has none."""
    scores = [snippet.score for place in part.places for snippet in part.contexts[place]]
    known = [score for score in scores if score is not None]
    return float(np.mean(known)) if known and len(known) == len(scores) else float("nan")


@dataclasses.dataclass
class MarginalCollator(DataCollatorForMultipleChoice):
    """The parts of all questions in one batch of the form that is mixed, and whose they are.

    Returns
    -------
    What ``inner`` returns for ``m`` parts, with their ``present`` as ``part_present`` ``(m, k)``; ``parts``
    ``(b, z)`` int64, the parts of each question, -1 where it has fewer; ``log_priors`` ``(b, z)`` float32,
    -inf there; and ``present``, ``labels`` and ``weights`` of the questions.
    """

    inner: DataCollatorForMultipleChoice | None = None

    def __call__(self, features: Sequence[Feature]) -> Batch:
        assert self.inner is not None
        batch = self.inner.units([[part] for part in _parts(features)])
        batch["part_present"] = batch.pop("present")
        most = max(len(feature["parts"]) for feature in features)
        parts = torch.full((len(features), most), -1)
        priors = torch.full((len(features), most), -torch.inf)
        start = 0
        for row, feature in enumerate(features):
            count = len(feature["parts"])
            parts[row, :count] = torch.arange(start, start + count)
            priors[row, :count] = torch.tensor(feature["log_priors"], dtype=torch.float32)
            start += count
        wide = max(len(feature["present"]) for feature in features)
        return {**batch, "parts": parts, "log_priors": priors, **self.facts(features, wide)}

    def sizes(self, units: Sequence[Sequence[Feature]]) -> list[tuple[int, int]]:
        assert self.inner is not None
        found = []
        for unit in units:
            rows, lengths = zip(*self.inner.sizes([[part] for part in _parts(unit)]))
            found.append((sum(rows), max(lengths)))
        return found


def _parts(features: Sequence[Feature]) -> Iterator[Feature]:
    for feature in features:
        for part in feature["parts"]:
            yield {key: value for key, value in part.items() if key not in _OF_QUESTION}


class Marginal(AnswerForm):
    """A form asked with each snippet alone; its answers are mixed by p(z | q).

    Its logits are logarithms of probabilities, so that cross-entropy is the loss of the mixture.
    """

    loss = "cross-entropy"

    def __init__(self, form: AnswerForm, mixing: Mixing) -> None:
        self.form, self.mixing = form, mixing
        self.auto, self.layout = form.auto, form.layout
        self.has_head, self.embeds = form.has_head, form.embeds

    def make_collator(self, tokenizer: Any, multiple: int | None, positions: bool) -> MarginalCollator:
        inner = self.form.make_collator(tokenizer, multiple, positions)
        return MarginalCollator(tokenizer, multiple, positions, inner)

    def encode(self, writer: Writer, item: Item) -> Feature:
        """The rows of the question with each of its snippets (``parts``), and log p(z | q)."""
        parts = self.mixing.apart(item)
        return item.labelled(
            {
                "parts": [self.form.encode(writer, part) for part in parts],
                "log_priors": self.mixing.log_priors(parts).tolist(),
            }
        )

    def of_parts(self, batch: Batch) -> Batch:
        """The part of a batch that the form which is mixed reads."""
        own = {key: value for key, value in batch.items() if key not in _OWN}
        own["present"] = own.pop("part_present")
        return own


class MarginalSequence(Marginal):
    """p(option | q) is the sum over z of p(z | q) p(option | q, z), each a softmax over the options."""

    def logits(self, model: Any, batch: Batch) -> torch.Tensor:
        likely = self.form.logits(model, self.of_parts(batch)).log_softmax(1)
        mixed = likely[batch["parts"].clamp(min=0)] + batch["log_priors"][..., None]
        return masked(mixed.logsumexp(1), batch)

    def score(
        self, backbone: ScoringBackbone, writer: Writer, items: Sequence[Item],
        batch_tokens: int | None = None, wrapper: Any = None, *, rotations: int = 1, quiet: bool = False,
    ) -> npt.NDArray[np.float64]:  # fmt: skip
        """See `AnswerForm.score`: parts are asked as questions of their own, of similar length together."""
        parts = [self.mixing.apart(item) for item in items]
        whole: Any = backbone
        logits = self.form.score(
            whole._replace(form=self.form), writer, [each for some in parts for each in some], batch_tokens,
            wrapper, rotations=rotations, quiet=quiet,
        )  # fmt: skip
        return mixed(logits, parts, self.mixing)


def mixed(
    logits: npt.NDArray[np.float64], parts: Sequence[Sequence[Item]], mixing: Mixing
) -> npt.NDArray[np.float64]:
    """Logits of all parts ``(m, k)`` to log p(option | q), ``(n, k)``; absent options at the lowest float."""
    likely = log_softmax(logits, axis=1)
    ends = np.cumsum([len(some) for some in parts])
    table = [
        logsumexp(likely[end - len(some) : end] + mixing.log_priors(some)[:, None], axis=0)
        for some, end in zip(parts, ends)
    ]
    first = logits[ends - 1]
    return np.where(first <= _LOWEST, first, np.array(table))


@runtime_checkable
class TellsTokens(Protocol):
    """A form that continues the question, and so can tell how likely each token of an option is."""

    def likelihoods(self, model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """log p(token) ``(b, k, t)`` float32, and which tokens are the option's own, bool."""


class MarginalTokens(Marginal):
    """The mean over an option's tokens y of log of the sum over z of p(z | q) p(y | q, z, those before y)."""

    def logits(self, model: Any, batch: Batch) -> torch.Tensor:
        form: Any = self.form
        likely, own = form.likelihoods(model, self.of_parts(batch))
        parts = batch["parts"]
        mixed = (likely[parts.clamp(min=0)] + batch["log_priors"][..., None, None]).logsumexp(1)
        # An option has the same tokens behind every snippet.
        own = own[parts[:, 0]]
        return masked((mixed * own).sum(2) / own.sum(2).clamp(min=1), batch)


KINDS: dict[str, Callable[[AnswerForm, Mixing], Marginal]] = {
    "sequence": MarginalSequence, "token": MarginalTokens,
}  # fmt: skip


def marginal(form: AnswerForm, mixing: Mixing) -> Marginal:
    """A form over snippets that are read apart.

    Raises
    ------
    ConfigError : tokens are to be mixed, and the form does not ask for any.
    """
    # Behind a knowledge prefix it is the prefixed form that does or does not.
    if mixing.kind == "token" and not isinstance(getattr(form, "form", form), TellsTokens):
        raise ConfigError(
            "this form does not read an option token by token", where="marginal.kind",
            expected="form: options", cure="set marginal.kind: sequence, or form: options",
        )  # fmt: skip
    return KINDS[mixing.kind](form, mixing)
