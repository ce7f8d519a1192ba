"""Settings of a ranker's training as documented models; one subclass a command, for its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from kaggle_rag.models.answering.forms import FORMS
from kaggle_rag.models.layouts import PRESETS
from kaggle_rag.runtime.settings import ModelName, Section
from training.loop.settings import TrainingSettings
from training.rankers.peft_methods import METHODS

# Files that decide what is learnt, and all keys that are relative to the YAML file.
FILES = (
    "questions", "contexts_file", "validation", "validation_contexts", "weaker_contexts", "drop", "folds",
)  # fmt: skip


def _known(table: dict[str, Any], what: str) -> Any:
    def check(name: str) -> str:
        if name not in table:
            raise ValueError(f"no such {what}, expected one of {', '.join(table)}")
        return name

    return AfterValidator(check)


class PeftSettings(Section):
    """What is trained: all weights, or a few beside them."""

    method: Annotated[str, _known(METHODS, "method")] = Field(
        "full", description="one of " + ", ".join(METHODS)
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="any setting of the method's configuration in peft, such as {r: 16, lora_alpha: 32, "
        "target_modules: all-linear, use_rslora: true}",
    )


class AdapterSettings(PeftSettings):
    """The same for backbones whose whole weights few machines can train."""

    method: Annotated[str, _known(METHODS, "method")] = Field(
        "lora", description="one of " + ", ".join(METHODS)
    )


class RankerRun(TrainingSettings):
    """What every ranker is trained by."""

    OLD_KEYS: ClassVar[Mapping[str, str]] = {"contexts": "contexts_file", "chunks": "snippets"}

    contexts_file: Path | None = Field(
        None, description="their contexts.parquet, by python -m inference contexts (default: none are read)"
    )
    model: ModelName = Field(description="the backbone: a folder, or a name")
    form: Annotated[str, _known(FORMS, "form")] = Field("choice", description="one of " + ", ".join(FORMS))
    peft: PeftSettings = PeftSettings()
    others: bool = Field(False, description="binary form: the head hears of the other options too")
    template: str | dict[str, Any] | None = Field(
        None,
        description="layout in place of the form's own: " + ", ".join(PRESETS) + "; or, by --set, "
        "template.first and template.second with {context}, {prompt}, {option}",
    )
    max_tokens: int = Field(512, ge=16, description="longest row read, in tokens; the context is cut to it")
    snippets: int = Field(0, ge=0, description="snippets of a context that are read (0: all that fit)")
    shuffle_options: bool = Field(True, description="draw a new order of the options every epoch")
    drop_snippets: float = Field(
        0.0, ge=0, lt=1, description="share of the snippets left out in training, drawn every epoch"
    )
    weaker_contexts: Path | None = Field(
        None, description="contexts of another quality for the same questions, mixed in in training"
    )
    weaker: float = Field(0.2, ge=0, le=1, description="share of the questions that read them")
    validation_contexts: Path | None = Field(None, description="their contexts")
    held_out: float = Field(
        0.1, ge=0, le=0.5,
        description="share of the questions kept for evaluation; near-duplicates stay together, and so do "
        "questions about one article",
    )  # fmt: skip
    folds: Path | None = Field(
        None, description="a table with id and fold, as cross-validate writes it; one of them is set aside"
    )
    fold: int | None = Field(
        None, ge=0, description="the fold that this run never sees; held_out is taken of the others"
    )
    drop: Path | None = Field(
        None,
        description="a list by python -m training diagnose: its label errors and contradictions are dropped",
    )
    drop_weight: float = Field(0.0, ge=0, lt=1, description="let them count for so much instead")
    batch: int = Field(8, ge=1, description="questions in a batch")
    learning_rate: float = Field(2e-5, gt=0, lt=1, description="highest learning rate")
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = Field(
        "cosine", description="how it falls"
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="each layer learns by this much less than the one above it"
    )
    frozen_layers: int = Field(0, ge=0, description="lowest layers that are not trained")
    frozen_embeddings: bool = Field(False, description="leave the embeddings as they are")
    optimizer: Literal["adamw", "adamw-8bit", "paged-adamw", "paged-adamw-8bit", "adafactor"] = Field(
        "adamw", description="8-bit and paged ones need bitsandbytes"
    )
    loss: Literal["cross-entropy", "binary"] | None = Field(None, description="default: that of the form")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all options")
    adversarial: Literal["none", "fgm", "awp"] = Field(
        "none", description="a second pass with disturbed embeddings (FGM) or weights (AWP)"
    )
    adversarial_size: float = Field(0.1, gt=0, description="size of that disturbance")
    adversarial_from: float = Field(0.3, ge=0, lt=1, description="share of the steps before it begins")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of a moving average of the weights (0: none)")
    gradient_checkpointing: bool = Field(False, description="compute activations twice to keep fewer")
    precision: Literal["auto", "fp32", "fp16", "bf16"] = Field(
        "auto", description="mixed precision (auto: the half precision that the GPU has; fp32 on a CPU)"
    )

    @model_validator(mode="after")
    def _evaluated(self) -> RankerRun:
        if (self.folds is None) != (self.fold is None):
            raise ValueError("folds and fold belong together: give both, or none")
        if self.drop_weight and not self.drop:
            raise ValueError("drop_weight without drop")
        if self.validation_contexts and not self.validation:
            raise ValueError("validation_contexts without validation")
        if self.validation and self.contexts_file and not self.validation_contexts:
            raise ValueError("validation needs validation_contexts where contexts are read")
        if self.weaker_contexts and not self.contexts_file:
            raise ValueError("weaker_contexts without contexts_file")
        if (self.frozen_layers or self.frozen_embeddings) and self.peft.method != "full":
            raise ValueError(
                "frozen_layers and frozen_embeddings belong to peft.method full: an adapter freezes all"
            )
        if self.others and self.form != "binary":
            raise ValueError("others is a setting of the form binary")
        return self


class MultipleChoiceRun(RankerRun):
    """An encoder such as DeBERTa: context, question and option in one row."""


class CausalRun(RankerRun):
    """A decoder such as Llama, Mistral or Phi-3."""

    form: Annotated[str, _known(FORMS, "form")] = Field("binary", description="one of " + ", ".join(FORMS))
    peft: AdapterSettings = AdapterSettings()
    learning_rate: float = Field(1e-4, gt=0, lt=1, description="highest learning rate")


class Seq2SeqRun(RankerRun):
    """An encoder-decoder such as T5."""

    form: Annotated[str, _known(FORMS, "form")] = Field("letters", description="one of " + ", ".join(FORMS))
    learning_rate: float = Field(1e-4, gt=0, lt=1, description="highest learning rate")


# The programs that train a ranker.
COMMANDS: dict[str, type[RankerRun]] = {
    "multiple-choice": MultipleChoiceRun,
    "causal": CausalRun,
    "seq2seq": Seq2SeqRun,
}
