"""The settings that every training shares; each kind has its own beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from kaggle_rag.runtime.settings import Section


class TrainingSettings(Section):
    """What any model is trained by."""

    questions: Path = Field(description="questions with answers: .csv, .parquet or .jsonl")
    limit: int | None = Field(
        None, ge=1, description="for trying things: learn from the first questions of the file only"
    )
    out: Path = Field(description="folder to write the model to")
    validation: Path | None = Field(None, description="questions to evaluate on, instead of held_out")
    held_out: float = Field(
        0.1, ge=0, le=0.5,
        description="share of the questions kept for evaluation; near-duplicates stay together",
    )  # fmt: skip
    exclude: tuple[Path, ...] = Field(
        (), description="question files not to learn from: near-duplicates of theirs are dropped"
    )
    epochs: float = Field(3.0, gt=0, le=1000, description="passes over the questions")
    accumulate: int = Field(1, ge=1, description="batches whose gradients are added up for one step")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the rate rises from 0")
    weight_decay: float = Field(0.01, ge=0, lt=1, description="AdamW's weight decay")
    evaluations: int = Field(1, ge=1, le=1000, description="evaluations and checkpoints an epoch")
    patience: int | None = Field(None, ge=1, description="stop after so many evaluations without a gain")
    seed: int = Field(0, ge=0, description="seed of every draw")
    device: str | None = Field(None, description="cpu or cuda (default: cuda where there is one)")
    report_to: Literal["none", "tensorboard", "wandb"] = Field("none", description="where curves are logged")

    @model_validator(mode="after")
    def _patience_is_judged(self) -> TrainingSettings:
        if self.patience and not (self.held_out or self.validation):
            raise ValueError("patience needs an evaluation: give validation, or held_out above 0")
        return self
