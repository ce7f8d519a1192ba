"""``solution.yaml`` as documented models."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from kaggle_rag.runtime.errors import ConfigError, KitError
from kaggle_rag.runtime.limits import parse_duration, parse_size
from kaggle_rag.runtime.places import at
from kaggle_rag.runtime.settings import (
    ModelName,
    ModelsInside,
    Section,
    by_new_names,
    drop,
    keys_of,
    plain_values,
    read_settings,
    validated,
)


def _size(value: Any) -> int | None:
    try:
        return None if value is None else parse_size(value)
    except KitError as error:
        raise ValueError(f"{error.what}, expected {error.expected}") from error


def _seconds(value: Any) -> float | None:
    try:
        return None if value is None else parse_duration(str(value))
    except KitError as error:
        raise ValueError(f"{error.what}, expected {error.expected}") from error


Size = Annotated[int | None, BeforeValidator(_size)]
Seconds = Annotated[float | None, BeforeValidator(_seconds), Field(gt=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Form = Literal["all", "each", "option"]


class ContextSettings(Section):
    """How evidence is found and put together."""

    per: Literal["question", "option"] = Field(
        "question", description="one context per question, or one per option with the evidence for it"
    )
    forms: tuple[Form, ...] = Field(
        ("all", "each"),
        min_length=1,
        description="queries per question: prompt with all options; prompt with each; each option alone",
    )
    instruction_forms: tuple[Form, ...] = Field(
        ("all", "each", "option"),
        min_length=1,
        description="the same for rows with is_question = false, whose verb says nothing about the topic",
    )
    retrievers: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default_factory=dict,
        description="retrievers and their weights, such as {all-minilm-l6-v2: 0.65, bm25: 0.35}; "
        "empty: the default dense one",
    )
    fusion: Literal["weighted", "rrf"] = Field(
        "weighted", description="scores of several retrievers: weighted mean, or reciprocal rank fusion"
    )
    merge: Literal["best", "best+mean"] = Field(
        "best", description="scores of a passage for several queries: the best, or the best and the mean"
    )
    reranker: ModelName | None = Field(
        None, description="a cross-encoder (folder or hub name) that reads question and passage together"
    )
    late: bool = Field(
        False, description="the re-ranker is a sentence encoder, whose token vectors are compared (MaxSim): "
        "it needs no training for that",
    )  # fmt: skip
    rerank: int = Field(50, ge=1, le=1000, description="how many of the best candidates per context it reads")
    reranked: Literal["alone", "merged"] = Field(
        "alone", description="order of what the re-ranker read: its own, or that and the retrievers' merged "
        "by reciprocal rank fusion, for a re-ranker that is no better than they are",
    )  # fmt: skip
    exact: bool | Literal["auto"] = Field(
        "auto",
        description="search every stored vector instead of the FAISS index (auto: on a GPU, where reading "
        "them takes at most ten minutes)",
    )
    nprobe: int | None = Field(
        None, ge=1, description="inverted lists to visit per query (default: what the index was tuned for)"
    )
    hits: int = Field(10, ge=1, le=1000, description="nearest passages per query")
    keep: int = Field(20, ge=1, le=1000, description="maximum number of evidence passages in one context")
    neighbours: int = Field(
        1, ge=0, le=10, description="passages joined on each side of a hit, of the same article"
    )
    near_duplicate: float = Field(
        0.25, ge=0, le=2, description="L2 distance below which the farther of two hits is dropped"
    )
    tokens: int = Field(384, ge=16, description="longest context, in tokens of the index's encoder")
    titles: bool = Field(True, description="open each snippet with the title of its article")
    own: Literal["keep", "ignore"] = Field(
        "keep", description="rows that bring a context: use it instead of the index, or search anyway"
    )


# Options of rankers by their names in the previous version.
OLD_OPTIONS = {"chunks": "snippets"}


class VectorScaling(Section):
    """What is done to the logarithm of a ranker's probability of each letter, from A on."""

    factors: tuple[Finite, ...] = Field(min_length=2, description="it is multiplied by these")
    biases: tuple[Finite, ...] = Field(min_length=2, description="then these are added")

    @model_validator(mode="after")
    def _one_of_each(self) -> VectorScaling:
        if len(self.factors) != len(self.biases):
            given = f"{len(self.factors)} factors and {len(self.biases)} biases"
            raise ValueError(f"{given}: one of each a letter")
        return self


class RankerSettings(Section):
    """One ranker of the ensemble."""

    kind: str = Field("similarity", description="a key of kaggle_rag.rankers.registry")
    weight: float = Field(1.0, ge=0, allow_inf_nan=False, description="its weight in the blend")
    temperature: float = Field(
        1.0, gt=0, allow_inf_nan=False,
        description="its probabilities are raised to 1 / temperature before they are blended; "
        "cross-validate fits it",
    )  # fmt: skip
    vector: VectorScaling | None = Field(
        None, description="instead of a temperature, a factor and a bias of each letter; cross-validate "
        "--calibration vector fits them",
    )  # fmt: skip
    options: Annotated[dict[str, Any], ModelsInside(("folder", "base"))] = Field(
        default_factory=dict, description="settings of that ranker"
    )
    train: dict[str, Any] | None = Field(
        None,
        description="how python -m training cross-validate trains it: {command: multiple-choice, model: ...}",
    )

    @model_validator(mode="after")
    def _one_calibration(self) -> RankerSettings:
        if self.vector and self.temperature != 1:
            raise ValueError("temperature and vector are both given: choose one")
        return self

    @field_validator("options")
    @classmethod
    def _by_new_names(cls, options: dict[str, Any]) -> dict[str, Any]:
        return by_new_names(options, OLD_OPTIONS)


class LimitSettings(Section):
    """Limits on what the kit may use of the machine."""

    ram: Size = Field(None, description="refuse a stage that would need more, such as 13GB")
    gpu: Size = Field(None, description="the same for the memory of one GPU, such as 15GB")
    disk: Size = Field(
        None, description="the same for what a submission writes beside itself, such as 20GB"
    )
    time: Seconds = Field(
        None,
        description="end in this time, counted from the start of the program, such as 8.5h, 40m or 90s: "
        "rankers that do not get to all questions answer the least certain ones",
    )


class GenerationSettings(Section):
    """How a model answers in words (``python -m inference generate``)."""

    model: ModelName | None = Field(
        None, description="a decoder or an encoder-decoder: folder or hub name"
    )
    template: dict[str, Any] | None = Field(
        None,
        description="another layout of the prompt: {first: ...} with the fields {context}, {prompt} and, of "
        "questions with options, {options}",
    )
    chat: bool = Field(False, description="ask by the tokenizer's chat template, as of instructed models")
    snippets: int = Field(0, ge=0, description="snippets of a context to read (0: all that fit)")
    max_tokens: int | None = Field(
        None, ge=1,
        description="longest prompt, in tokens (default: 1,024, or what the model has room for); a context "
        "loses its end",
    )  # fmt: skip
    max_new_tokens: int = Field(64, ge=1, description="longest answer, in tokens")
    stop: tuple[str, ...] = Field((), description="texts that end an answer, and are no part of it")
    beams: int = Field(
        1, ge=1, le=1000, description="beams of a beam search (1: the most likely token each time)"
    )
    temperature: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="sample at this temperature (0: do not sample)"
    )
    top_k: int = Field(0, ge=0, description="sample among so many of the most likely tokens (0: all)")
    top_p: float = Field(
        1.0, gt=0, le=1, description="sample among the most likely tokens that have this probability together"
    )
    seed: int = Field(0, ge=0, description="of what is sampled; each question has its own random numbers")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="of the weights (auto: the GPU's half precision, or fp32 on a CPU)"
    )
    load_in_4bit: bool = Field(False, description="keep the weights in 4-bit NormalFloat")
    batch_tokens: int | None = Field(
        None, ge=1,
        description="padded tokens, with the answers, of a batch (default: 2,048 on a CPU, 16,384 on a GPU)",
    )  # fmt: skip

    @field_validator("stop")
    @classmethod
    def _some_text(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if not all(stop):
            raise ValueError("a stop text is empty: every answer would end before it begins")
        return stop

    @model_validator(mode="after")
    def _one_search(self) -> GenerationSettings:
        if self.beams > 1 and self.temperature:
            raise ValueError("beams search for the most likely answer and temperature samples: give one")
        if not self.temperature and (self.top_k or self.top_p < 1):
            raise ValueError("top_k and top_p narrow down what is sampled: give a temperature too")
        return self


class Solution(Section):
    """Everything that turns questions into a submission."""

    questions: Path | None = Field(None, description="test.csv, .parquet or .jsonl")
    index: Path | None = Field(None, description="folder written by python -m wiki_index build")
    contexts_file: Path | None = Field(None, description="a ready contexts.parquet, instead of an index")
    out: Path | None = Field(None, description="the file to write")
    encoder: ModelName | None = Field(None, description="location of the index's encoder on this machine")
    encoders: dict[str, ModelName] = Field(
        default_factory=dict,
        description="the same for its further retrievers: {name of the retriever: folder or hub name}",
    )
    device: str | None = Field(None, description="cpu or cuda (default: cuda if available)")
    contexts: ContextSettings = ContextSettings()
    rankers: tuple[RankerSettings, ...] = Field((RankerSettings(),), min_length=1)
    blend: Literal["probabilities", "ranks", "logits"] = Field(
        "probabilities", description="what of the rankers is averaged"
    )
    stack: Path | None = Field(
        None,
        description="stack.npz of a cross-validation of these rankers, in this order: combines them "
        "instead of blend and weights",
    )
    out_of_fold: Path | None = Field(
        None,
        description="predictions of these rankers, in this order, on questions that they were not trained on "
        "(cross-validate --final writes them): with limits.time they tell which questions gain most",
    )
    top: Annotated[int, Field(ge=1, le=26)] | Literal["all"] = Field(
        3, description="letters of each prediction, the most likely first; all: a whole ranking"
    )
    limit: int | None = Field(
        None, ge=1, description="for a trial: only the first questions of the file"
    )
    limits: LimitSettings = LimitSettings()
    generate: GenerationSettings = GenerationSettings()

    @field_validator("rankers")
    @classmethod
    def _some_weight(cls, rankers: tuple[RankerSettings, ...]) -> tuple[RankerSettings, ...]:
        if not sum(ranker.weight for ranker in rankers):
            raise ValueError("all weights are 0: at least one ranker needs a nonzero weight")
        return rankers


def load(
    path: str | Path | None, changes: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> Solution:
    """Read a solution file (or the defaults), apply ``KEY=VALUE`` changes, then the flags given.

    Parameters
    ----------
    path : a YAML file, or ``None`` for the defaults. Relative paths in it are relative to it.
    changes : such as ``contexts.per=option``; the value is read as YAML.
    flags : top-level keys; ``None`` means not given.

    Raises
    ------
    ConfigError : listing every unknown key and every invalid value.
    """
    return read_settings(Solution, path, changes, flags)


def load_partly(
    path: str | Path | None, changes: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> tuple[Solution, list[KitError]]:
    """`load`, but return the valid settings and the faults of the others, so that all can be checked."""
    values = plain_values(Solution, path, changes, flags)
    try:
        return validated(Solution, values, path or "settings"), []
    except ConfigError as error:
        return _fitting(values), [error]


def absolute(solution: Solution) -> Solution:
    """The same settings with absolute paths, for processes that run in another folder."""
    values = solution.model_dump(mode="json", exclude_unset=True)
    paths, models = keys_of(Solution)
    at(values, paths, lambda path: str(Path(path).absolute()))
    at(values, models, lambda name: str(Path(name).absolute()) if Path(name).is_dir() else name)
    return Solution.model_validate(values)


def _fitting(values: dict[str, Any]) -> Solution:
    """The settings without the invalid ones.

    Of a section whose settings contradict each other, its files and models stay: they are checked too.
    """
    values = copy.deepcopy(values)
    while True:
        try:
            return Solution.model_validate(values)
        except ValidationError as error:
            for fault in error.errors():
                name = str(fault["loc"][0])
                section = values.get(name) if len(fault["loc"]) == 1 else None
                drop(values, fault["loc"])
                files = _files_of(name, section) if isinstance(section, dict) else {}
                if files and files != section:
                    values[name] = files


def _files_of(name: Any, section: Mapping[str, Any]) -> dict[str, Any]:
    """The files and models that a section names."""
    paths, models = keys_of(Solution)
    own = [inner for outer, _, inner in (key.partition(".") for key in (*paths, *models)) if outer == name]
    return {key: section[key] for key in own if key in section}
