"""Settings shared by every kind of training; each kind adds its own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from kaggle_rag.runtime.settings import Section


class TrainingSettings(Section):
    """Settings of any training run."""

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
    accumulate: int = Field(1, ge=1, description="batches whose gradients are accumulated for one step")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps spent warming up from a rate of 0")
    weight_decay: float = Field(0.01, ge=0, lt=1, description="AdamW's weight decay")
    evaluations: int = Field(1, ge=1, le=1000, description="evaluations and checkpoints per epoch")
    patience: int | None = Field(None, ge=1, description="stop after this many evaluations without a gain")
    seed: int = Field(0, ge=0, description="seed of every random draw")
    device: str | None = Field(None, description="cpu or cuda (default: cuda if available)")
    report_to: Literal["none", "tensorboard", "wandb"] = Field("none", description="where to log the curves")

    @model_validator(mode="after")
    def _patience_needs_evaluation(self) -> TrainingSettings:
        if self.patience and not (self.held_out or self.validation):
            raise ValueError("patience needs an evaluation: set validation, or held_out above 0")
        return self
