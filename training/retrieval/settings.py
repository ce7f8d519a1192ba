"""Settings of a training run as documented models; command-line flags are generated from them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from kaggle_rag.config import Form
from kaggle_rag.data.tables import names_a_table
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, resolve, weights_sum
from kaggle_rag.runtime.settings import ModelName
from training.loop.settings import SCHEDULES, Schedule, TrainingSettings, require_evaluation
from training.retrieval.losses import RERANKER_LOSSES, RETRIEVER_LOSSES, Loss

# Settings that only some losses take.
_LOSS_SETTINGS = sorted({key for loss in RETRIEVER_LOSSES.values() for key in loss.takes})
# Settings that make examples of questions.
_MINING = {"negatives", "queries", "margin"}
_TEACHER = "soft labels: a cross-encoder's folder or name, or a table with id, passage, score"
Metric = Literal["recall@1", "recall@5", "recall@10", "ndcg@10"]


def _known(table: dict[str, Loss], name: str) -> str:
    if name not in table:
        raise ValueError(f"no such loss, expected one of {', '.join(table)}")
    return name


def _require_teacher(teacher: str | None, loss: str, losses: dict[str, Loss]) -> None:
    if losses[loss].teacher and teacher is None:
        raise ValueError(f"the loss {loss!r} learns from a teacher's scores: set teacher or supported")


class _Run(TrainingSettings):
    """Settings shared by retrievers and re-rankers."""

    FILES: ClassVar[tuple[str, ...]] = ("questions", "passages", "validation", "supported")
    LATER: ClassVar[tuple[str, ...]] = (*TrainingSettings.LATER, "schedule", "supported", "precision")

    model: ModelName = Field(DEFAULT_ENCODER, description="the model to start from: a folder or a name")
    positive: str | None = Field(
        None,
        description="column of QUESTIONS with the passage that answers (without it, such passages are "
        "mined: close to question and right option, and containing the words of that option)",
    )
    supported: Path | None = Field(
        None, description="table of python -m training support: a question's best passage there is its "
        "positive, the others come first among its negatives, and their scores are soft labels",
    )  # fmt: skip
    passages: Path | None = Field(
        None, description="passages to search: .txt with one per line, or a table with a column text"
    )
    index: Path | None = Field(None, description="an index to search instead, see python -m wiki_index build")
    encoder: ModelName | None = Field(
        None,
        description="where the index's encoder is now (same weights); without an index, the one to mine with",
    )
    forms: tuple[Form, ...] = Field(
        ("all", "each"), min_length=1, description="query forms of the questions, as in contexts.forms"
    )
    queries: int = Field(
        2, ge=1, le=100, description="training queries per question, drawn from its forms by the seed"
    )
    depth: int = Field(50, ge=1, le=1000, description="nearest passages per query to mine from")
    margin: float = Field(
        0.95, gt=0, le=1,
        description="a hard negative's cosine to the query is at most this share of the positive's",
    )  # fmt: skip
    support: float = Field(
        1.0, gt=0, le=1, description="share of an option's words that a supporting passage must contain"
    )
    batch: int = Field(64, ge=2, description="examples per batch")
    learning_rate: float = Field(5e-5, gt=0, lt=1, description="peak learning rate")
    schedule: Schedule = Field("linear", description=SCHEDULES)
    teacher: ModelName | None = Field(None, description=_TEACHER)
    pool: int = Field(
        5000, ge=10,
        description="passages ranked in an evaluation: all up to this number, else mined and random ones",
    )  # fmt: skip
    metric: Metric = Field("ndcg@10", description="metric that selects the best checkpoint")
    report_to: Literal["none", "tensorboard"] = Field("none", description="where to log the curves")

    @model_validator(mode="after")
    def _passages_from_one_place(self) -> _Run:
        if self.passages and self.index:
            raise ValueError("passages and index are both given: choose one")
        if not (self.positive or self.passages or self.index):
            if self.supported:
                raise ValueError("supported needs passages to search for others: set passages or index")
            raise ValueError("nothing to train on: set positive (a column), passages or index")
        if self.positive and self.supported:
            raise ValueError("positive and supported both name the passages that answer: choose one")
        require_evaluation(self, self.schedule)
        return self

    @property
    def teacher_table(self) -> Path | None:
        """The teacher, if it is a table of scores."""
        return Path(self.teacher) if self.teacher and names_a_table(self.teacher) else None

    def files(self) -> dict[str, Path]:
        return super().files() | ({"teacher": self.teacher_table} if self.teacher_table else {})

    def teachers(self) -> list[Path]:
        return [resolve(self.teacher).path] if self.teacher and not self.teacher_table else []

    def plan(self) -> dict[str, Any]:
        plan = super().plan()
        for folder in self.teachers():
            plan["teacher"] = weights_sum(folder)
        if self.encoder and not self.index:
            # It mines what is learnt; that of an index has the index's own weights, wherever it is.
            plan["encoder"] = resolve(self.encoder).sha256
        return plan

    @property
    def labels(self) -> str | None:
        """Where soft labels come from."""
        return self.teacher or (str(self.supported) if self.supported else None)


class RetrieverSettings(_Run):
    """A bi-encoder, trained to put a question next to the passage that answers it."""

    LATER: ClassVar[tuple[str, ...]] = (
        *_Run.LATER, "teacher", "vicreg_weights", "expander", "drawn"
    )

    loss: Annotated[str, AfterValidator(lambda name: _known(RETRIEVER_LOSSES, name))] = Field(
        "infonce", description="one of " + ", ".join(RETRIEVER_LOSSES)
    )
    negatives: int = Field(0, ge=0, le=50, description="hard negatives per example (0: in-batch ones only)")
    scale: float = Field(20.0, gt=0, description="factor that multiplies cosines (1 / temperature)")
    mini_batch: int = Field(32, ge=1, description="rows in memory at once with infonce-cached")
    vicreg_weights: tuple[float, float, float] = Field(
        (25.0, 25.0, 1.0), description="of invariance, variance and covariance with vicreg"
    )
    expander: int = Field(
        0, ge=0, description="width of three layers before vicreg, which are not kept (0: none)"
    )
    drawn: int = Field(10_000, ge=2, description="passages that tsdae draws to learn from")

    @model_validator(mode="after")
    def _negatives_for_the_loss(self) -> RetrieverSettings:
        least = RETRIEVER_LOSSES[self.loss].least_negatives
        if self.negatives < least:
            raise ValueError(f"the loss {self.loss!r} needs negatives: {least} or more")
        if not all(0 <= weight < math.inf for weight in self.vicreg_weights) or not any(self.vicreg_weights):
            raise ValueError("vicreg_weights are 0 or more, and not all of them 0")
        _require_teacher(self.labels, self.loss, RETRIEVER_LOSSES)
        return self

    def idle(self) -> Iterator[str]:
        yield from super().idle()
        for key in _LOSS_SETTINGS:
            names = [name for name, loss in RETRIEVER_LOSSES.items() if key in loss.takes]
            if key in self.model_fields_set and self.loss not in names:
                yield f"{key} has no effect with the loss {self.loss}: it applies only to {', '.join(names)}"
        if RETRIEVER_LOSSES[self.loss].denoises:
            for key in sorted(self.model_fields_set.intersection(_MINING)):
                yield f"{key} has no effect with the loss {self.loss}: it learns from no question"


class RerankerSettings(_Run):
    """A cross-encoder, trained to score the passage that answers above others that look like it."""

    loss: Annotated[str, AfterValidator(lambda name: _known(RERANKER_LOSSES, name))] = Field(
        "bce", description="one of " + ", ".join(RERANKER_LOSSES)
    )
    forms: tuple[Form, ...] = Field(
        ("all",), min_length=1, description="query forms of the questions, as in contexts.forms"
    )
    queries: int = Field(
        1, ge=1, le=100, description="training queries per question, drawn from its forms by the seed"
    )
    negatives: int = Field(4, ge=1, le=50, description="hard negatives per example")
    batch: int = Field(32, ge=2, description="examples per batch")
    candidates: int = Field(50, ge=2, le=1000, description="nearest passages re-ranked in an evaluation")
    max_tokens: int | None = Field(None, ge=8, description="maximum length of a pair, in tokens")

    @model_validator(mode="after")
    def _teacher_for_the_loss(self) -> RerankerSettings:
        _require_teacher(self.labels, self.loss, RERANKER_LOSSES)
        return self
