"""python -m training  retriever · reranker"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, get_args

from kaggle_rag.config import Section, read_settings
from kaggle_rag.errors import ConfigError, run_program
from training.config import PATHS, RerankerSettings, RetrieverSettings

_RETRIEVER = """\
examples:
  python -m training retriever --questions train.csv --positive fact --passages facts.txt --out my-encoder/
  python -m training retriever --questions train.csv --index index/ --out my-encoder/ --dry-run
  python -m training retriever --config retriever.yaml --loss triplet --negatives 4

QUESTIONS is a .csv, .parquet or .jsonl file with id, prompt, A, B, ... and answer. --positive names a
column with the passage that answers; without it passages that support the answer are looked for in
--passages or --index. Queries are the forms the retriever asks in: none says which option is right.

The work happens in OUT.training. Killed at any point, the same command goes on from the last
checkpoint. OUT is then an encoder: python -m wiki_index build CORPUS INDEX --encoder OUT"""

_RERANKER = """\
examples:
  python -m training reranker --questions train.csv --positive fact --passages facts.txt --out my-reranker/
  python -m training reranker --questions train.csv --index index/ --out my-reranker/ --negatives 8
  python -m training reranker --config reranker.yaml --loss margin-mse --teacher BAAI/bge-reranker-base

A model without a head that scores pairs, such as an encoder, is given a new one. --teacher gives soft
labels: a cross-encoder, or a table with id, passage and score (.csv, .parquet, .jsonl)."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training", description="Fine-tune the models that find the evidence."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    raw = argparse.RawDescriptionHelpFormatter
    for name, model, what, examples in (
        ("retriever", RetrieverSettings, "fine-tune an encoder on questions and passages", _RETRIEVER),
        ("reranker", RerankerSettings, "fine-tune a cross-encoder on the same", _RERANKER),
    ):
        command = commands.add_parser(name, help=what, description=what, epilog=examples, formatter_class=raw)
        _flags(command, model)
    return parser


def _flags(parser: argparse.ArgumentParser, model: type[Section]) -> None:
    """One flag a setting, with the setting's own description; values are read by the settings model."""
    parser.add_argument("--config", metavar="YAML", help="settings of this page as a file; flags override it")
    for name, field in model.model_fields.items():
        many = "tuple" in str(field.annotation)
        unset = field.is_required() or field.default in (None, ())
        told = f"{field.description}{'' if unset else f' (default: {_show(field.default)})'}"
        parser.add_argument(
            "--" + name.replace("_", "-"), nargs="+" if many else None,
            metavar=_metavar(field.annotation), help=told.replace("%", "%%"),
        )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="say what it would take, write nothing")
    parser.add_argument("--json", action="store_true", help="print the record as JSON")


def _metavar(annotation: Any) -> str:
    kinds = {annotation, *get_args(annotation)}
    return "PATH" if Path in kinds else "N" if int in kinds else "X" if float in kinds else "NAME"


def _show(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _settings(arguments: argparse.Namespace, model: Any) -> Any:
    flags = {name: getattr(arguments, name) for name in model.model_fields}
    return read_settings(model, arguments.config, (), flags, paths=PATHS)


def _require_extra(settings: Any) -> None:
    """The trainers need packages that answering questions does not."""
    wanted = ["accelerate", "datasets", *(["tensorboard"] if settings.report_to == "tensorboard" else [])]
    if missing := [name for name in wanted if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            "not installed: " + ", ".join(missing),
            cure=f"pip install {' '.join(missing)}, or install the extra 'train'",
        )


def _retriever(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments, RetrieverSettings)
    _require_extra(settings)
    from training.retriever import train_retriever

    record = train_retriever(settings, dry=arguments.dry_run)
    _tell(arguments, record)
    if not arguments.dry_run and not arguments.json:
        print(
            f"{settings.out}: encoder sha256 {record['result']['sha256']}\n"
            "An index made by another encoder must be built again: "
            f"python -m wiki_index build CORPUS INDEX --encoder {settings.out}"
        )
    return 0


def _reranker(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments, RerankerSettings)
    _require_extra(settings)
    from training.reranker import train_reranker

    record = train_reranker(settings, dry=arguments.dry_run)
    _tell(arguments, record)
    if not arguments.dry_run and not arguments.json:
        print(f"{settings.out}: cross-encoder sha256 {record['result']['sha256']}")
    return 0


def _tell(arguments: argparse.Namespace, record: dict[str, Any]) -> None:
    if arguments.json:
        print(json.dumps(record, indent=2, ensure_ascii=False))
        return
    result = record.get("result", record)
    for name in ("before", "after"):
        if result.get(name):
            print(f"{name:7}" + "  ".join(f"{key} {value:.4f}" for key, value in result[name].items()))
    steps, minutes = result["steps"], result["seconds"] / 60
    if arguments.dry_run:
        print(", ".join(f"{count:,} {name}" for name, count in result["notes"].items()))
        print(f"{steps:,} steps, about {minutes:.0f} minutes. Nothing was written.")
        return
    print(f"{steps:,} steps in {minutes:.1f} minutes, best at {result['best step']:,}")
    if (metric := record["plan"]["metric"]) in result["after"]:
        gain = result["after"][metric] - result["before"][metric]
        if gain <= 0:
            print(f"note: {metric} did not rise ({gain:+.4f}): the model it started from is no worse")


COMMANDS = {"retriever": _retriever, "reranker": _reranker}


def main() -> int:
    arguments = _parser().parse_args()
    return COMMANDS[arguments.command](arguments)


if __name__ == "__main__":
    sys.exit(run_program(main))
