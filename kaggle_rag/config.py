"""``solution.yaml`` as documented models; every fault is reported at once, in the user's keys."""

from __future__ import annotations

import copy
import difflib
import functools
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic import ValidationInfo as Info
from pydantic_core import PydanticCustomError

from kaggle_rag.runtime.errors import ConfigError, KitError
from kaggle_rag.runtime.limits import parse_size
from kaggle_rag.runtime.places import at, beside, model_beside, plain


def _size(value: Any) -> int | None:
    try:
        return None if value is None else parse_size(value)
    except KitError as error:
        raise ValueError(f"{error.what}, expected {error.expected}") from error


def _takes(annotation: Any, kinds: Collection[Any]) -> bool:
    """Whether a field may be of one of these kinds."""
    return annotation in kinds or any(_takes(part, kinds) for part in get_args(annotation))


Size = Annotated[int | None, BeforeValidator(_size)]
Form = Literal["all", "each", "option"]


class Section(BaseModel):
    """What every settings model shares: unknown keys are faults, and nothing changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    OLD_KEYS: ClassVar[Mapping[str, str]] = {}
    """Keys by the names they had in the version before; they work, and a line says today's name."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_yes_for_a_number(cls, value: Any, info: Info) -> Any:
        """YAML's ``yes`` is the number 1 to pydantic, which nobody meant."""
        field = cls.model_fields[info.field_name or ""]
        if (
            isinstance(value, bool)
            and _takes(field.annotation, (int, float))
            and not _takes(field.annotation, (bool, Any))
        ):
            raise PydanticCustomError("int_type" if _takes(field.annotation, (int,)) else "float_type", "")
        return value


class ContextSettings(Section):
    """How evidence is found and put together."""

    per: Literal["question", "option"] = Field(
        "question", description="one context a question, or one an option with the evidence for it"
    )
    forms: tuple[Form, ...] = Field(
        ("all", "each"),
        min_length=1,
        description="queries a question: prompt with all options; prompt with each; each option bare",
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
    reranker: str | None = Field(
        None, description="a cross-encoder (folder or hub name) that reads question and passage together"
    )
    rerank: int = Field(50, ge=1, le=1000, description="best candidates a context that it reads")
    exact: bool | Literal["auto"] = Field(
        "auto",
        description="search every stored vector instead of the FAISS index (auto: on a GPU, where reading "
        "them takes ten minutes at most)",
    )
    hits: int = Field(10, ge=1, le=1000, description="nearest passages taken a query")
    keep: int = Field(20, ge=1, le=1000, description="most evidence passages in one context")
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


# Options of rankers by the names they had in the version before.
OLD_OPTIONS = {"chunks": "snippets"}


class RankerSettings(Section):
    """One ranker of the ensemble."""

    kind: str = Field("similarity", description="a key of kaggle_rag.rankers.registry")
    weight: float = Field(1.0, ge=0, allow_inf_nan=False, description="its weight in the blend")
    options: dict[str, Any] = Field(default_factory=dict, description="settings of that ranker")
    train: dict[str, Any] | None = Field(
        None,
        description="how python -m training cross-validate trains it: {command: multiple-choice, model: ...}",
    )

    @field_validator("options")
    @classmethod
    def _by_new_names(cls, options: dict[str, Any]) -> dict[str, Any]:
        return by_new_names(options, OLD_OPTIONS)


class LimitSettings(Section):
    """What the machine may give."""

    ram: Size = Field(None, description="refuse a stage that would need more, such as 13GB")
    gpu: Size = Field(None, description="the same for the memory of one GPU, such as 15GB")


class Solution(Section):
    """Everything that turns questions into a submission."""

    questions: Path | None = Field(None, description="test.csv, .parquet or .jsonl")
    index: Path | None = Field(None, description="folder written by python -m wiki_index build")
    contexts_file: Path | None = Field(None, description="a ready contexts.parquet, instead of an index")
    out: Path | None = Field(None, description="the file to write")
    encoder: str | None = Field(None, description="where the index's encoder lies on this machine")
    encoders: dict[str, str] = Field(
        default_factory=dict,
        description="the same of its further retrievers: {name of the retriever: folder or hub name}",
    )
    device: str | None = Field(None, description="cpu or cuda (default: cuda where there is one)")
    contexts: ContextSettings = ContextSettings()
    rankers: tuple[RankerSettings, ...] = Field((RankerSettings(),), min_length=1)
    blend: Literal["probabilities", "ranks"] = "probabilities"
    stack: Path | None = Field(
        None,
        description="stack.npz of a cross-validation of these rankers, in this order: mixes them in place "
        "of blend and weights",
    )
    top: Annotated[int, Field(ge=1, le=26)] | Literal["all"] = Field(
        3, description="letters of each prediction, the most likely first; all: a whole ranking"
    )
    limit: int | None = Field(
        None, ge=1, description="for trying things: the first questions of the file only"
    )
    limits: LimitSettings = LimitSettings()

    @field_validator("rankers")
    @classmethod
    def _some_weight(cls, rankers: tuple[RankerSettings, ...]) -> tuple[RankerSettings, ...]:
        if not sum(ranker.weight for ranker in rankers):
            raise ValueError("all weights are 0: at least one ranker needs a nonzero weight")
        return rankers


# What PyYAML calls a text that it was not given as a file.
_NAMELESS = '"<unicode string>"'
PATHS = ("questions", "index", "contexts_file", "out", "stack")
# Each a folder or the name of a model: a path where there is such a folder.
MODELS = ("encoder", "encoders.*", "contexts.reranker", "rankers.*.options.folder", "rankers.*.options.base")


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
    ConfigError : listing every unknown key and every value that does not fit.
    """
    return read_settings(Solution, path, changes, flags, paths=PATHS, models=MODELS)


Settings = TypeVar("Settings", bound=Section)


def read_settings(
    model: type[Settings],
    path: str | Path | None,
    changes: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    *,
    paths: Sequence[str] = (),
    models: Sequence[str] = (),
) -> Settings:
    """`load` for any settings model.

    Parameters
    ----------
    paths : patterns (`kaggle_rag.runtime.places.at`) of the keys that hold paths, which are relative to the
        file.
    models : the same of keys that hold folders or names of models.
    """
    values = _values(model, path, changes, flags, paths=paths, models=models)
    return validated(model, values, path or "settings")


def _values(
    model: type[Section],
    path: str | Path | None,
    changes: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    *,
    paths: Sequence[str],
    models: Sequence[str],
) -> dict[str, Any]:
    """The settings as plain values, their paths resolved."""
    values = by_new_names(_read(Path(path)) if path else {}, model.OLD_KEYS)
    if path:
        folder = Path(path).parent
        at(values, paths, lambda value: beside(value, folder))
        at(values, models, lambda value: model_beside(value, folder))
    for change in changes:
        _set(values, change)
    values = by_new_names(values, model.OLD_KEYS)
    values |= {key: value for key, value in (flags or {}).items() if value not in (None, {})}
    at(values, (*paths, *models), plain)
    return values


def by_new_names(values: Mapping[str, Any], old: Mapping[str, str]) -> dict[str, Any]:
    """``values`` with their ``old`` keys under today's names, and a note for each; one that is there wins."""
    named = dict(values)
    for key in old.keys() & named.keys():
        _tell_renamed(key, old[key])
        named.setdefault(old[key], named[key])
        del named[key]
    return named


@functools.cache
def _tell_renamed(old: str, new: str) -> None:
    print(f"note: the setting {old} is now called {new}; the old name still works", file=sys.stderr)


def load_partly(
    path: str | Path | None, changes: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> tuple[Solution, list[KitError]]:
    """`load`, but give the settings that fit beside the faults of the others, so that all can be checked."""
    values = _values(Solution, path, changes, flags, paths=PATHS, models=MODELS)
    try:
        return validated(Solution, values, path or "settings"), []
    except ConfigError as error:
        return _fitting(values), [error]


def _fitting(values: dict[str, Any]) -> Solution:
    """The settings without those that do not fit."""
    values = copy.deepcopy(values)
    while True:
        try:
            return Solution.model_validate(values)
        except ValidationError as error:
            for fault in error.errors():
                _drop(values, fault["loc"])


def _drop(values: dict[str, Any], place: Sequence[Any]) -> None:
    """Take out the innermost key that leads to a fault; a fault inside of a list takes the list with it."""
    inside, key = values, place[0]
    for part in place[1:]:
        if not (isinstance(inside.get(key), dict) and part in inside[key]):
            break
        inside, key = inside[key], part
    inside.pop(key, None)


def validated(model: type[Settings], values: Mapping[str, Any], where: str | Path) -> Settings:
    """The settings of a mapping; raise ``ConfigError`` with all its faults."""
    values = by_new_names(values, model.OLD_KEYS)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = error.errors()
        # A list whose only item is at fault counts as empty too: the inner fault says it better.
        inner = {fault["loc"][:depth] for fault in faults for depth in range(1, len(fault["loc"]))}
        lines = _together([_fault(fault, model, values) for fault in faults if fault["loc"] not in inner])
        raise ConfigError(
            f"{len(lines)} setting{'s do' if len(lines) > 1 else ' does'} not fit:\n  " + "\n  ".join(lines),
            where=where,
        ) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError("no such file", where=path, cure="check the spelling of the path") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the file is not in UTF-8 (byte {error.start + 1:,} is 0x{error.object[error.start]:02x})",
            where=path,
            cure=f"save it as UTF-8, or: iconv -f CP1252 -t UTF-8 '{path.name}' > new.yaml",
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        said = str(error).replace(_NAMELESS, repr(path.name))
        tabs = "'\\t'" in said
        raise ConfigError(
            f"not readable as YAML: {said}", where=path, cure="indent with spaces, not tabs" if tabs else ""
        ) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError("the file holds no settings", where=path, expected="key: value lines")
    return values


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML in which a key that stands twice is a fault, not a silent choice of the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1} and below: {twice!r} stands twice")
        return dict(super().construct_mapping(node, deep))


def _set(values: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals:
        raise ConfigError(f"cannot read --set {change!r}", expected="KEY=VALUE, such as contexts.per=option")
    *parents, last = key.strip().split(".")
    section = values
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise ConfigError(f"--set {change!r}: {parent!r} is not a section")
    try:
        section[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {change!r}: the value is not YAML") from error


def _together(faults: Sequence[tuple[str, str, str]]) -> list[str]:
    """One line a key: where several forms are allowed, pydantic tells a fault for each of them."""
    wants: dict[tuple[str, str], dict[str, None]] = {}
    for key, want, given in faults:
        wants.setdefault((key, given), {})[want] = None
    return [f"{key}: " + ", or ".join(told) + given for (key, given), told in wants.items()]


def _fault(fault: Any, model: type[BaseModel], values: Mapping[str, Any]) -> tuple[str, str, str]:
    """Key, what is wanted there and what was given; an unknown key names the known one most like it."""
    key = ".".join(map(str, _place(fault, values)))
    if fault["type"] == "missing":
        return key, "not given", ""
    if fault["type"] != "extra_forbidden":
        return key or "together", _words(fault), f" (given: {fault['input']!r})" if key else ""
    for part in fault["loc"][:-1]:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            kinds = (annotation, *get_args(annotation))
            model = next((k for k in kinds if isinstance(k, type) and issubclass(k, Section)), model)
    close = difflib.get_close_matches(str(fault["loc"][-1]), model.model_fields, 1)
    hint = f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(model.model_fields)
    return key, f"no such setting; {hint}", ""


def _place(fault: Any, values: Any) -> list[Any]:
    """The keys that lead to a fault, without what pydantic calls the forms that a value may have."""
    place: list[Any] = []
    for part in fault["loc"]:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return [*place, part] if fault["type"] == "missing" else place
        place.append(part)
    return place


# What pydantic calls kinds of values, in the words of YAML.
_KINDS = {
    "tuple": "a list", "list": "a list", "dict": "key: value lines", "mapping": "key: value lines",
    "model": "key: value lines", "string": "text", "int": "a whole number", "float": "a number",
    "bool": "true or false", "path": "a path", "none": "nothing",
}  # fmt: skip


def _words(fault: Any) -> str:
    """A fault as a person would tell it."""
    kind, _, way = fault["type"].rpartition("_")
    if fault["type"] == "too_short":
        return f"should hold at least {fault['ctx']['min_length']}"
    if fault["type"] == "invalid_key":
        return "no name of a setting"
    if fault["type"] == "int_from_float":
        kind = "int"
    elif way not in ("type", "parsing"):
        return str(fault["msg"].removeprefix("Value error, ").replace("Input should", "should"))
    return f"should be {_KINDS.get(kind.removesuffix('_attributes'), kind)}"
