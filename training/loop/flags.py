"""A flag for each setting of a training, with its description, and the settings that the flags make."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from kaggle_rag.runtime.flags import OldName
from kaggle_rag.runtime.settings import Section, read_settings
from training.loop.settings import TrainingSettings

Settings = TypeVar("Settings", bound=TrainingSettings)


def settings_flags(parser: argparse.ArgumentParser, model: type[Section]) -> None:
    """Add one flag per setting, with its description; the settings model parses the values."""
    parser.add_argument("--config", metavar="YAML", help="a file of the settings below; flags override it")
    nested = [name for name, field in model.model_fields.items() if _is_nested(field.annotation)]
    if nested:
        parser.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
            help=f"any setting, including those in {', '.join(nested)}: peft.method=lora, peft.options.r=32",
        )  # fmt: skip
    for name, field in model.model_fields.items():
        if name in nested:
            continue
        many = "tuple" in str(field.annotation)
        unset = field.is_required() or field.default in (None, ())
        text = f"{field.description}{'' if unset else f' (default: {_show(field.default)})'}"
        parser.add_argument(
            "--" + name.replace("_", "-"), dest=name, nargs="+" if many else None,
            metavar=_metavar(field.annotation), help=text.replace("%", "%%"),
        )  # fmt: skip
    for old, new in model.OLD_KEYS.items():
        parser.add_argument("--" + old, dest=new, action=OldName, help=argparse.SUPPRESS)
    parser.add_argument("--dry-run", action="store_true", help="report what it would need; write nothing")
    parser.add_argument("--json", action="store_true", help="print the record as JSON")


def settings_of(arguments: argparse.Namespace, model: type[Settings]) -> Settings:
    """The settings of a file and the flags; a note on standard error for each without effect."""
    flags = {name: getattr(arguments, name, None) for name in model.model_fields}
    settings = read_settings(model, arguments.config, getattr(arguments, "changes", ()), flags)
    for note in settings.idle():
        print("note: " + note, file=sys.stderr)
    return settings


def _is_nested(annotation: Any) -> bool:
    return get_origin(annotation) is dict or (
        isinstance(annotation, type) and issubclass(annotation, Section)
    )


def _metavar(annotation: Any) -> str:
    literals = [each for each in (annotation, *get_args(annotation)) if get_origin(each) is Literal]
    if literals:
        return "{" + ",".join(map(str, get_args(literals[0]))) + "}"
    kinds = {annotation, *get_args(annotation)}
    if bool in kinds:
        return "{true,false}"
    return "PATH" if Path in kinds else "N" if int in kinds else "X" if float in kinds else "NAME"


def _show(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
