"""Settings shared by every kind of training; each kind adds its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from kaggle_rag.index.manifest import MANIFEST, Manifest
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.faults import Gathered
from kaggle_rag.runtime.files import sha256
from kaggle_rag.runtime.settings import ModelName, Section

# Where it runs and what it reports; these do not affect the weights.
_NOT_PLANNED = {"out", "device", "report_to", "encoder"}
# Each setting, and the one without which it has no effect.
_NEEDS = {
    "adversarial_size": "adversarial", "adversarial_from": "adversarial", "weaker": "weaker_contexts",
    "drop_snippets": "contexts_file", "margin": "negatives", "drop_best": "contexts_file",
    "no_context": "contexts_file", "borrowed_options": "contexts_file",
}  # fmt: skip
# What rankers' checkpoints are chosen by: log loss at the temperature that makes it least, as a blend has
# it. MAP@3 of few questions moves by the seed alone, and plain log loss punishes confidence that can be taken
# back.
CALIBRATED_LOSS = "calibrated loss"
Schedule = Literal["linear", "cosine", "constant_with_warmup", "plateau"]
SCHEDULES = "how the rate decays (plateau: halved when two evaluations bring no gain; it has no warm-up)"
# Settings that only an evaluation uses.
_EVALUATION = ("metric", "pool", "candidates")


class TrainingSettings(Section):
    """Settings of any training run."""

    # Settings that name files whose content decides the weights, whatever their names.
    FILES: ClassVar[tuple[str, ...]] = ()
    # Settings that earlier versions did not have: left out of a plan where they change nothing.
    LATER: ClassVar[tuple[str, ...]] = ("limit",)

    model: ModelName = Field(description="the model to start from: a folder or a name")
    questions: Path = Field(description="questions with answers: .csv, .parquet or .jsonl")
    limit: int | None = Field(
        None, ge=1, description="for quick trials: train on the first N questions only"
    )
    out: Path = Field(description="folder to write the model to")
    validation: Path | None = Field(None, description="questions to evaluate on, instead of held_out")
    held_out: float = Field(
        0.1, ge=0, le=0.5,
        description="share of the questions held out for evaluation; near-duplicates stay together",
    )  # fmt: skip
    exclude: tuple[Path, ...] = Field(
        (), description="question files to exclude: near-duplicates of their questions are not trained on"
    )
    epochs: float = Field(3.0, gt=0, le=1000, description="passes over the questions")
    batch: int = Field(ge=1, description="questions per batch")
    accumulate: int = Field(1, ge=1, description="batches whose gradients are accumulated for one step")
    learning_rate: float = Field(gt=0, lt=1, description="peak learning rate")
    schedule: Schedule = Field(description=SCHEDULES)
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps spent warming up from a rate of 0")
    weight_decay: float = Field(0.01, ge=0, lt=1, description="AdamW's weight decay")
    evaluations: int = Field(1, ge=1, le=1000, description="evaluations and checkpoints per epoch")
    patience: int | None = Field(None, ge=1, description="stop after this many evaluations without a gain")
    seed: int = Field(0, ge=0, description="seed of every random draw")
    device: str | None = Field(None, description="cpu or cuda (default: cuda if available)")
    precision: Literal["auto", "fp32", "fp16", "bf16"] = Field(
        "auto",
        description="mixed precision (auto: the GPU's half precision; fp32 on a CPU, where bf16 is faster "
        "if it has matrix units)",
    )
    report_to: Literal["none", "tensorboard", "wandb"] = Field("none", description="where to log the curves")

    @model_validator(mode="after")
    def _patience_needs_evaluation(self) -> TrainingSettings:
        if self.patience and not (self.held_out or self.validation):
            raise ValueError("patience needs an evaluation: set validation, or held_out above 0")
        return self

    def files(self) -> dict[str, Path]:
        """The files that are given, by setting."""
        return {key: path for key in self.FILES if (path := getattr(self, key)) is not None}

    def teachers(self) -> list[Path]:
        """Folders of other trained models that it learns from: what they were trained on, it was too.

        Raises
        ------
        CheckpointError : there is no such model.
        """
        return []

    def check_inputs(self) -> None:
        """Raise ``KitError`` for all files that are missing, before a model is loaded in vain."""
        faults = Gathered()
        with faults.check():
            self.teachers()
        for path in (*self.files().values(), *self.exclude):
            with faults.check():
                require_file(path)
        if index := getattr(self, "index", None):
            with faults.check():
                Manifest.read(index)
        faults.tell()

    def plan(self) -> dict[str, Any]:
        """Everything of the settings that decides the weights, as plain JSON; files by their sha256."""
        plan: dict[str, Any] = {
            key: value for key, value in self.model_dump(mode="json").items() if key not in _NOT_PLANNED
        }
        # Plans written before these settings existed must compare equal.
        for key in self.LATER:
            if getattr(self, key) == type(self).model_fields[key].get_default():
                plan.pop(key, None)
        plan |= {key: sha256(path) for key, path in self.files().items()}
        plan["exclude"] = [sha256(path) for path in self.exclude]
        if index := getattr(self, "index", None):
            plan["index"] = sha256(index / MANIFEST)
        return plan

    def packages(self) -> list[str]:
        """Packages that training needs and answering does not."""
        return ["accelerate", "datasets", *([] if self.report_to == "none" else [self.report_to])]

    def idle(self) -> Iterator[str]:
        """Yield a line per setting that was given and has no effect alongside the others."""
        given, validation = self.model_fields_set, self.validation
        for key, needed in _NEEDS.items():
            # A key may mean something else in another kind of training, which then lacks what it needs.
            needs = hasattr(self, needed) and getattr(self, needed) in (None, 0, "none")
            if key in given and getattr(self, key) and needs:
                yield f"{key} has no effect without {needed}"
        if "held_out" in given and validation:
            yield "held_out has no effect: validation is given"
        if getattr(self, "schedule", "") == "plateau":
            if "warmup" in given and self.warmup:
                yield "warmup has no effect with schedule plateau"
            # The first evaluation is a gain, and the last is followed by no step.
            if self.epochs * self.evaluations < 4:
                yield "schedule plateau has no effect with fewer than four evaluations: raise evaluations"
        if not (validation or self.held_out):
            for key in sorted(given.intersection(_EVALUATION)):
                yield f"{key} has no effect without an evaluation: set validation, or held_out above 0"


def require_evaluation(settings: TrainingSettings, schedule: Schedule) -> None:
    """Raise ``ValueError`` for a schedule that waits for evaluations where there are none."""
    if schedule == "plateau" and not (settings.held_out or settings.validation):
        raise ValueError("schedule plateau needs an evaluation: set validation, or held_out above 0")


def require_file(path: Path) -> None:
    """Raise ``InputError`` unless ``path`` is a file."""
    if path.is_dir():
        raise InputError("this is a folder, not a file", where=path, expected="one file")
    if not path.is_file():
        raise InputError("no such file", where=path, cure="check the spelling of the path")
