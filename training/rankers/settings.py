"""Settings of a ranker's training as documented models; one subclass per command, for its defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from kaggle_rag.models.answering.forms import FORMS
from kaggle_rag.models.card import CARD
from kaggle_rag.models.layouts import PRESETS
from kaggle_rag.runtime.files import sha256
from kaggle_rag.runtime.settings import ModelName, Section
from training.loop.settings import SCHEDULES, Schedule, TrainingSettings, require_evaluation
from training.rankers.peft_methods import METHODS
from training.rankers.teacher import teacher_folder

# Forms whose rows show one option each: the order matters only with a template that shows them all.
_SINGLE_OPTION = ("choice", "bi-encoder", "binary", "options", "reward")


def _known(table: dict[str, Any], what: str) -> Any:
    def check(name: str) -> str:
        if name not in table:
            raise ValueError(f"no such {what}, expected one of {', '.join(table)}")
        return name

    return AfterValidator(check)


class PeftSettings(Section):
    """What is trained: all weights, or a few added to them."""

    method: Annotated[str, _known(METHODS, "method")] = Field(
        "full", description="one of " + ", ".join(METHODS)
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="any setting of the method's peft configuration, such as {r: 16, lora_alpha: 32, "
        "target_modules: all-linear, use_rslora: true}",
    )


class AdapterSettings(PeftSettings):
    """The same, for backbones that few machines can train in full."""

    method: Annotated[str, _known(METHODS, "method")] = Field(
        "lora", description="one of " + ", ".join(METHODS)
    )


class MarginalSettings(Section):
    """Whether snippets are read apart and mixed by the retriever (Lewis et al. 2020)."""

    kind: Literal["none", "sequence", "token"] = Field(
        "none", description="none: read together; sequence: mix the answers (RAG-Sequence); token: mix each "
        "token of an option (RAG-Token, form options)",
    )  # fmt: skip
    temperature: float = Field(
        0.1, gt=0, description="of the retriever's scores; kind sequence fits it on the held-out questions"
    )


# Shares of the questions that change from epoch to epoch.
_SHARES = (
    "drop_snippets", "drop_best", "no_context", "none_of_above", "borrowed_options", "weaker_contexts",
)  # fmt: skip


class RankerRun(TrainingSettings):
    """Settings of any ranker's training."""

    OLD_KEYS: ClassVar[Mapping[str, str]] = {"contexts": "contexts_file", "chunks": "snippets"}
    FILES: ClassVar[tuple[str, ...]] = (
        "questions", "contexts_file", "validation", "validation_contexts", "weaker_contexts", "drop", "folds",
        "teacher",
    )  # fmt: skip

    LATER: ClassVar[tuple[str, ...]] = (
        *TrainingSettings.LATER, "packed", "marginal", "none_of_above", "r_drop", "teacher", "teacher_name",
        "teacher_weight", "teacher_temperature", "teacher_ranker", "teacher_cosine", "drop_best",
        "no_context", "borrowed_options", "rising", "margin", "data_map",
    )  # fmt: skip

    contexts_file: Path | None = Field(
        None, description="their contexts.parquet, from python -m inference contexts (default: none)"
    )
    model: ModelName = Field(description="the backbone: a folder, or a name")
    form: Annotated[str, _known(FORMS, "form")] = Field("choice", description="one of " + ", ".join(FORMS))
    peft: PeftSettings = PeftSettings()
    others: bool = Field(False, description="binary form: the head also sees the other options")
    template: str | dict[str, Any] | None = Field(
        None,
        description="layout instead of the form's own: " + ", ".join(PRESETS) + "; or, with --set, "
        "template.first and template.second with {context}, {prompt}, {option}",
    )
    max_tokens: int = Field(512, ge=16, description="longest row, in tokens; the context is cut to fit")
    snippets: int = Field(0, ge=0, description="snippets to read per context (0: as many as fit)")
    marginal: MarginalSettings = MarginalSettings()
    shuffle_options: bool = Field(True, description="reshuffle the options every epoch")
    drop_snippets: float = Field(
        0.0, ge=0, lt=1, description="share of the snippets dropped in training, redrawn every epoch"
    )
    none_of_above: float = Field(
        0.0, ge=0, lt=1, description="share of the questions in which an option becomes 'None of the above': "
        "in half of them the right one, which then is the answer",
    )  # fmt: skip
    drop_best: float = Field(
        0.0, ge=0, lt=1, description="share of the questions whose contexts lose their best snippet"
    )
    no_context: float = Field(0.0, ge=0, lt=1, description="share of the questions that are read without any")
    borrowed_options: float = Field(
        0.0, ge=0, lt=1, description="share of the questions in which a wrong option becomes one of another "
        "question about the same article",
    )  # fmt: skip
    rising: bool = Field(
        False, description="let these shares rise from 0 in the first epoch to what they are in the last"
    )
    weaker_contexts: Path | None = Field(
        None, description="contexts of a different quality for the same questions, mixed in for training"
    )
    weaker: float = Field(0.2, ge=0, le=1, description="share of the questions that read weaker_contexts")
    validation_contexts: Path | None = Field(None, description="contexts of the validation questions")
    held_out: float = Field(
        0.1, ge=0, le=0.5,
        description="share of the questions held out for evaluation; near-duplicates stay together, as do "
        "questions about one article",
    )  # fmt: skip
    folds: Path | None = Field(
        None, description="a table with id and fold, as cross-validate writes it; one fold is set aside"
    )
    fold: int | None = Field(
        None, ge=0, description="the fold that this run never sees; held_out is taken from the others"
    )
    drop: Path | None = Field(
        None,
        description="list from python -m training diagnose: its label errors and contradictions are dropped",
    )
    drop_weight: float = Field(0.0, ge=0, lt=1, description="weight to give them instead of dropping them")
    batch: int = Field(8, ge=1, description="questions per batch")
    learning_rate: float = Field(2e-5, gt=0, lt=1, description="peak learning rate")
    schedule: Schedule = Field("cosine", description=SCHEDULES)
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="learning rate of each layer as a multiple of the one above it"
    )
    frozen_layers: int = Field(0, ge=0, description="number of lowest layers to freeze")
    frozen_embeddings: bool = Field(False, description="freeze the embeddings")
    optimizer: Literal["adamw", "adamw-8bit", "paged-adamw", "paged-adamw-8bit", "adafactor"] = Field(
        "adamw", description="8-bit and paged ones need bitsandbytes"
    )
    loss: Literal["cross-entropy", "binary", "pairwise"] | None = Field(
        None, description="default: the form's own"
    )
    margin: float = Field(
        0.0, ge=0, allow_inf_nan=False,
        description="by how much the loss pairwise, that of the form reward, wants the right option above "
        "each other one",
    )
    teacher: Path | None = Field(
        None, description="predictions of a stronger ranker or ensemble, whose probabilities are learnt "
        "beside the answers: oof.parquet of a cross-validation, or a file that predict or submit wrote",
    )  # fmt: skip
    teacher_name: str = Field("", description="the table in it (default: its mix, or the mean)")
    teacher_weight: float = Field(0.5, ge=0, le=1, description="share of the loss that is the teacher's")
    teacher_temperature: float = Field(2.0, gt=0, description="at which both are compared")
    teacher_ranker: ModelName | None = Field(
        None, description="folder of a trained ranker of the same form and width, whose vectors of the "
        "options are learnt beside the answers",
    )  # fmt: skip
    teacher_cosine: float = Field(
        0.14, gt=0, allow_inf_nan=False,
        description="weight of their cosine distance (DistilBERT: 1 against 7 for probabilities and labels "
        "together)",
    )  # fmt: skip
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all options")
    r_drop: float = Field(
        0.0, ge=0, description="weight of the divergence between two passes with other dropout (R-Drop); it "
        "takes twice the time",
    )  # fmt: skip
    adversarial: Literal["none", "fgm", "awp"] = Field(
        "none", description="a second pass with perturbed embeddings (FGM) or weights (AWP)"
    )
    adversarial_size: float = Field(0.1, gt=0, description="size of that perturbation")
    adversarial_from: float = Field(0.3, ge=0, lt=1, description="share of the steps before it starts")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of a moving average of the weights (0: none)")
    packed: bool = Field(
        True, description="a decoder reads context and question once for all options; losses are the same"
    )
    data_map: bool = Field(
        False, description="write data_map.parquet beside the weights: how sure the training was of each "
        "answer, epoch by epoch; it takes no time",
    )  # fmt: skip
    gradient_checkpointing: bool = Field(False, description="recompute activations to save memory")

    @model_validator(mode="after")
    def _evaluated(self) -> RankerRun:
        require_evaluation(self, self.schedule)
        if faults := list(self._contradictions()):
            raise ValueError("; ".join(faults))
        return self

    def _contradictions(self) -> Iterator[str]:
        if (self.folds is None) != (self.fold is None):
            yield "folds and fold belong together: set both, or neither"
        if self.drop_weight and not self.drop:
            yield "drop_weight needs drop"
        if self.validation_contexts and not self.validation:
            yield "validation_contexts needs validation"
        if self.validation and self.contexts_file and not self.validation_contexts:
            yield "validation needs validation_contexts if contexts are read"
        if self.weaker_contexts and not self.contexts_file:
            yield "weaker_contexts needs contexts_file"
        if (self.frozen_layers or self.frozen_embeddings) and self.peft.method != "full":
            yield "frozen_layers and frozen_embeddings need peft.method full: an adapter freezes everything"
        if METHODS[self.peft.method].reads and not self.contexts_file:
            yield f"peft.method {self.peft.method} needs contexts_file: it reads the snippets"
        if self.others and self.form != "binary":
            yield "others applies only to the form binary"
        if self.marginal.kind == "token" and self.form != "options":
            yield "marginal.kind token applies only to the form options"
        if self.marginal.kind != "none" and self.loss not in (None, "cross-entropy"):
            yield "marginal needs the loss cross-entropy: probabilities are mixed"
        if self.marginal.kind != "none" and not self.contexts_file:
            yield "marginal needs contexts_file: it mixes the snippets of contexts"

    def teachers(self) -> list[Path]:
        return [teacher_folder(self.teacher_ranker)] if self.teacher_ranker else []

    def plan(self) -> dict[str, Any]:
        plan = super().plan()
        for folder in self.teachers():
            # The card holds the checksum of every file beside it.
            plan["teacher_ranker"] = sha256(folder / CARD)
        return plan

    def packages(self) -> list[str]:
        quantized = "8bit" in self.optimizer or "paged" in self.optimizer
        own = [*METHODS[self.peft.method].packages, *(["bitsandbytes"] if quantized else [])]
        return [*super().packages(), *own]

    def idle(self) -> Iterator[str]:
        yield from super().idle()
        for key in ("teacher_name", "teacher_weight", "teacher_temperature"):
            if key in self.model_fields_set and not self.teacher:
                yield f"{key} has no effect without teacher"
        if "teacher_cosine" in self.model_fields_set and not self.teacher_ranker:
            yield "teacher_cosine has no effect without teacher_ranker"
        if self.margin and (self.loss or "pairwise") != "pairwise":
            yield f"margin has no effect with the loss {self.loss}"
        elif self.margin and not self.loss and (self.form != "reward" or self.marginal.kind != "none"):
            yield "margin has no effect without the loss pairwise"
        if self.data_map and self.epochs < 2:
            yield "data_map sees no change within a single epoch: variability will be 0"
        if self.rising and self.epochs <= 1:
            yield "rising has no effect in a single epoch"
        if self.rising and not any(getattr(self, key) for key in _SHARES):
            yield "rising has no effect without one of " + ", ".join(_SHARES)
        alone = self.form in _SINGLE_OPTION and not self.others and self.template is None
        if "shuffle_options" in self.model_fields_set and alone:
            yield f"shuffle_options has no effect in the form {self.form}: each row shows one option"


class MultipleChoiceRun(RankerRun):
    """An encoder such as DeBERTa: context, question and option in one row."""


class CausalRun(RankerRun):
    """A decoder such as Llama, Mistral or Phi-3."""

    form: Annotated[str, _known(FORMS, "form")] = Field("binary", description="one of " + ", ".join(FORMS))
    peft: AdapterSettings = AdapterSettings()
    learning_rate: float = Field(1e-4, gt=0, lt=1, description="peak learning rate")


class Seq2SeqRun(RankerRun):
    """An encoder-decoder such as T5."""

    form: Annotated[str, _known(FORMS, "form")] = Field("letters", description="one of " + ", ".join(FORMS))
    learning_rate: float = Field(1e-4, gt=0, lt=1, description="peak learning rate")


# The commands that train a ranker.
COMMANDS: dict[str, type[RankerRun]] = {
    "multiple-choice": MultipleChoiceRun,
    "causal": CausalRun,
    "seq2seq": Seq2SeqRun,
}
