"""Settings as documented models, from YAML and flags; every fault is reported at once, in the user's keys."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic import ValidationInfo as Info
from pydantic_core import PydanticCustomError

from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.places import at, beside, model_beside, plain


def _takes(annotation: Any, kinds: Collection[Any]) -> bool:
    """Whether a field may have one of these types."""
    return annotation in kinds or any(_takes(part, kinds) for part in get_args(annotation))


class Section(BaseModel):
    """Base of every settings model: unknown keys are faults, and nothing changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    OLD_KEYS: ClassVar[Mapping[str, str]] = {}
    """Keys by their names in the previous version; they still work, and a note gives the new name."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_yes_for_a_number(cls, value: Any, info: Info) -> Any:
        """Reject YAML's ``yes`` for a number: pydantic would read it as 1, which nobody means."""
        field = cls.model_fields[info.field_name or ""]
        if (
            isinstance(value, bool)
            and _takes(field.annotation, (int, float))
            and not _takes(field.annotation, (bool, Any))
        ):
            raise PydanticCustomError("int_type" if _takes(field.annotation, (int,)) else "float_type", "")
        return value


# PyYAML's name for text that does not come from a file.
_NAMELESS = '"<unicode string>"'
Settings = TypeVar("Settings", bound=Section)


def read_settings(
    model: type[Settings],
    path: str | Path | None,
    changes: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Read a settings file (or the defaults), apply ``KEY=VALUE`` changes, then the flags given.

    Fields of the type ``Path`` are relative to the file, and so are those of `ModelName` that are folders.
    """
    values = plain_values(model, path, changes, flags)
    return validated(model, values, path or "settings")


def plain_values(
    model: type[Section],
    path: str | Path | None,
    changes: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The settings as plain values, their paths resolved."""
    values = by_new_names(_read(Path(path)) if path else {}, model.OLD_KEYS)
    if path:
        resolve(values, model, Path(path).parent)
    for change in changes:
        _set(values, change)
    values = by_new_names(values, model.OLD_KEYS)
    values |= {key: value for key, value in (flags or {}).items() if value not in (None, {})}
    paths, models = keys_of(model)
    at(values, [*paths, *models], plain)
    return values


class _Model:
    """Marks a field as a folder, or the name of a model to look up."""


@dataclasses.dataclass(frozen=True)
class ModelsInside:
    """Marks, in a table of free keys, those that hold models."""

    keys: tuple[str, ...]


ModelName = Annotated[str, _Model()]


def keys_of(model: type[Section]) -> tuple[list[str], list[str]]:
    """Patterns (`kaggle_rag.runtime.places.at`) of the keys of paths, and of those of models."""
    paths: list[str] = []
    models: list[str] = []
    for name, field in model.model_fields.items():
        _collect([field.annotation, *field.metadata], name, paths, models)
    return list(dict.fromkeys(paths)), list(dict.fromkeys(models))


def _collect(parts: Iterable[Any], key: str, paths: list[str], models: list[str]) -> None:
    """Add a key to the patterns that the parts of its annotation, and their marks, call for."""
    for part in parts:
        if isinstance(part, _Model):
            models.append(key)
        elif isinstance(part, ModelsInside):
            models += [f"{key}.{inner}" for inner in part.keys]
        elif part is Path:
            paths.append(key)
        elif isinstance(part, type) and issubclass(part, Section):
            for collected, own in zip((paths, models), keys_of(part)):
                collected += [f"{key}.{inner}" for inner in own]
        elif get_origin(part) in (tuple, list):
            _collect(get_args(part), f"{key}.*", paths, models)
        elif get_origin(part) is dict:
            _collect(get_args(part)[1:], f"{key}.*", paths, models)
        elif get_origin(part) is Annotated:
            _collect([part.__origin__, *part.__metadata__], key, paths, models)
        else:
            _collect(get_args(part), key, paths, models)


def resolve(values: dict[str, Any], model: type[Section], folder: Path) -> None:
    """Make the paths and models of a settings file in ``folder`` relative to it, in place."""
    paths, models = keys_of(model)
    at(values, paths, lambda value: beside(value, folder))
    at(values, models, lambda value: model_beside(value, folder))


def by_new_names(values: Mapping[str, Any], old: Mapping[str, str]) -> dict[str, Any]:
    """``values`` with ``old`` keys under their new names, and a note for each; an existing new key wins."""
    named = dict(values)
    for key in old.keys() & named.keys():
        _tell_renamed(key, old[key])
        named.setdefault(old[key], named[key])
        del named[key]
    return named


@functools.cache
def _tell_renamed(old: str, new: str) -> None:
    print(f"note: the setting {old} is now called {new}; the old name still works", file=sys.stderr)


def drop(values: dict[str, Any], location: Sequence[Any]) -> None:
    """Remove the innermost key that leads to a fault; for a fault inside a list, the whole list."""
    inside, key = values, location[0]
    for part in location[1:]:
        if not (isinstance(inside.get(key), dict) and part in inside[key]):
            break
        inside, key = inside[key], part
    inside.pop(key, None)


class InvalidSettings(ConfigError):
    """Settings that are invalid, each with its key; ``keys`` as in ``contexts.per``."""

    def __init__(self, lines: Sequence[str], keys: Iterable[str], where: str | Path) -> None:
        count = f"{len(lines)} setting{'s are' if len(lines) > 1 else ' is'} invalid"
        super().__init__(f"{count}:\n  " + "\n  ".join(lines), where=where)
        self.keys = frozenset(keys)


def at_fault(faults: Iterable[Exception], key: str) -> bool:
    """Whether one of the faults is that the setting was given and is invalid: then it is not missing."""
    invalid = (each for fault in faults if isinstance(fault, InvalidSettings) for each in fault.keys)
    return any(key == each or key.startswith(each + ".") for each in invalid)


def validated(model: type[Settings], values: Mapping[str, Any], where: str | Path) -> Settings:
    """The settings of a mapping; raise ``ConfigError`` with all its faults."""
    values = by_new_names(values, model.OLD_KEYS)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = error.errors()
        # A list whose only item is at fault also counts as empty: the inner fault is clearer.
        inner = {fault["loc"][:depth] for fault in faults for depth in range(1, len(fault["loc"]))}
        lines = _merged([_fault(fault, model, values) for fault in faults if fault["loc"] not in inner])
        keys = {".".join(map(str, _location(fault, values))) for fault in faults}
        raise InvalidSettings(lines, keys, where) from None


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
        message = str(error).replace(_NAMELESS, repr(path.name))
        tabs = "'\\t'" in message
        raise ConfigError(
            f"not valid YAML: {message}", where=path, cure="indent with spaces, not tabs" if tabs else ""
        ) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError("the file holds no settings", where=path, expected="key: value lines")
    return values


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML in which a duplicate key is a fault, instead of silently choosing the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1} and below: {twice!r} appears twice")
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
            kind = "a list" if isinstance(section, list) else "no section"
            raise ConfigError(
                f"--set {change!r}: {parent!r} is {kind}",
                expected="a key of a section, such as contexts.keep",
                cure="change it in the file, or give the whole value: --set 'rankers=[{kind: similarity}]'",
            )  # fmt: skip
    try:
        section[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--set {change!r}: the value is not YAML", expected=f"a text with : {{ }} [ ] or # in quotes, "
            f"inside those of the shell: --set '{key}=\"...\"'",
        ) from error


def _merged(faults: Sequence[tuple[str, str, str]]) -> list[str]:
    """One line per key: if several forms are allowed, pydantic reports a fault for each of them."""
    wants: dict[tuple[str, str], dict[str, None]] = {}
    for key, want, given in faults:
        wants.setdefault((key, given), {})[want] = None
    return [f"{key}: " + ", or ".join(forms) + given for (key, given), forms in wants.items()]


def _fault(fault: Any, model: type[BaseModel], values: Mapping[str, Any]) -> tuple[str, str, str]:
    """Key, what is wanted there and what was given; for an unknown key, the most similar known one."""
    key = ".".join(map(str, _location(fault, values)))
    if fault["type"] == "missing":
        return key, "not given", ""
    if fault["type"] != "extra_forbidden":
        return key or "the settings together", _words(fault), f" (given: {fault['input']!r})" if key else ""
    for part in fault["loc"][:-1]:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            kinds = (annotation, *get_args(annotation))
            model = next((k for k in kinds if isinstance(k, type) and issubclass(k, Section)), model)
    close = difflib.get_close_matches(str(fault["loc"][-1]), model.model_fields, 1)
    hint = f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(model.model_fields)
    return key, f"no such setting; {hint}", ""


def _location(fault: Any, values: Any) -> list[Any]:
    """The keys that lead to a fault, without pydantic's names for the forms that a value may have."""
    location: list[Any] = []
    for part in fault["loc"]:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return [*location, part] if fault["type"] == "missing" else location
        location.append(part)
    return location


# pydantic's names for types of values, in the words of YAML.
_KINDS = {
    "tuple": "a list", "list": "a list", "dict": "key: value lines", "mapping": "key: value lines",
    "model": "key: value lines", "string": "text", "int": "a whole number", "float": "a number",
    "bool": "true or false", "path": "a path", "none": "nothing",
}  # fmt: skip


def _words(fault: Any) -> str:
    """A fault in plain words."""
    kind, _, way = fault["type"].rpartition("_")
    if fault["type"] == "too_short":
        return f"should hold at least {fault['ctx']['min_length']}"
    if fault["type"] == "invalid_key":
        return "not the name of a setting"
    if fault["type"] == "int_from_float":
        kind = "int"
    elif way not in ("type", "parsing"):
        return str(fault["msg"].removeprefix("Value error, ").replace("Input should", "should"))
    return f"should be {_KINDS.get(kind.removesuffix('_attributes'), kind)}"
