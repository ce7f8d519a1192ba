"""The command lines of retriever and reranker."""

from __future__ import annotations

import argparse
from typing import Any, TypeVar

from training.loop.checks import require_packages
from training.loop.flags import settings_flags, settings_of
from training.loop.record import show_record
from training.retrieval.settings import RerankerSettings, RetrieverSettings

Settings = TypeVar("Settings", RetrieverSettings, RerankerSettings)

RETRIEVER = """\
examples:
  python -m training retriever --questions train.csv --positive fact --passages facts.txt --out my-encoder/
  python -m training retriever --questions train.csv --index index/ --out my-encoder/ --dry-run
  python -m training retriever --config retriever.yaml --loss triplet --negatives 4

QUESTIONS is a .csv, .parquet or .jsonl file with id, prompt, A, B, ... and answer. --positive names a
column with the passage that answers; without it, supporting passages are searched for in --passages or
--index. Queries take the forms used in retrieval: none reveals which option is right.

The work happens in OUT.training. If killed at any point, rerun the same command to resume from the last
checkpoint. The finished OUT is an encoder: python -m wiki_index build CORPUS INDEX --encoder OUT"""

RERANKER = """\
examples:
  python -m training reranker --questions train.csv --positive fact --passages facts.txt --out my-reranker/
  python -m training reranker --questions train.csv --index index/ --out my-reranker/ --negatives 8
  python -m training reranker --config reranker.yaml --loss margin-mse --teacher BAAI/bge-reranker-base

A model without a head that scores pairs, such as an encoder, gets a new one. --teacher gives soft
labels: a cross-encoder, or a table with id, passage and score (.csv, .parquet, .jsonl)."""


def retriever_flags(parser: argparse.ArgumentParser) -> None:
    settings_flags(parser, RetrieverSettings)


def reranker_flags(parser: argparse.ArgumentParser) -> None:
    settings_flags(parser, RerankerSettings)


def run_retriever(arguments: argparse.Namespace) -> int:
    settings = _checked(arguments, "retriever", RetrieverSettings)
    from training.retrieval.bi_encoder import train_retriever

    record = train_retriever(settings, dry=arguments.dry_run)
    told = (
        "encoder sha256 {sha256}\nAn index built with another encoder must be rebuilt: "
        f"python -m wiki_index build CORPUS INDEX --encoder {settings.out}"
    )
    return _shown(arguments, settings, record, told)


def run_reranker(arguments: argparse.Namespace) -> int:
    settings = _checked(arguments, "reranker", RerankerSettings)
    from training.retrieval.cross_encoder import train_reranker

    record = train_reranker(settings, dry=arguments.dry_run)
    return _shown(arguments, settings, record, "cross-encoder sha256 {sha256}")


def _checked(arguments: argparse.Namespace, command: str, model: type[Settings]) -> Settings:
    """The settings, and that all they need is here: before torch is imported."""
    from training.retrieval.checks import require_finder

    settings = settings_of(arguments, model)
    require_packages(settings.packages())
    require_finder(command, settings, dry=arguments.dry_run)
    return settings


def _shown(
    arguments: argparse.Namespace,
    settings: RetrieverSettings | RerankerSettings,
    record: dict[str, Any],
    told: str,
) -> int:
    show_record(record, dry=arguments.dry_run, as_json=arguments.json)
    if not arguments.dry_run and not arguments.json:
        print(f"{settings.out}: " + told.replace("{sha256}", record["result"]["sha256"]))
    return 0
