"""The build that the flags ask for, checked before the corpus is read."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING

from kaggle_rag.runtime.cluster import cluster_of
from kaggle_rag.runtime.errors import ConfigError
from wiki_index.commands.shared import RECALL, note_files, require_recall

if TYPE_CHECKING:
    from kaggle_rag.index.encoder import Encoder
    from kaggle_rag.text.units import Unit
    from wiki_index.plan import Plan


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The requested build, checked before the corpus is read."""
    from kaggle_rag.index.kinds import impossible, kind_of
    from kaggle_rag.runtime.limits import parse_size
    from kaggle_rag.text.units import Unit
    from wiki_index.corpus import Corpus
    from wiki_index.plan import Plan

    unit = Unit.parse(arguments.unit)
    if arguments.index:
        kind_of(arguments.index)
    _note_unused_flags(arguments)
    require_recall(arguments.recall)
    corpus = Corpus.open(arguments.corpus, skip_others=arguments.skip_others)
    note_files(corpus)
    plan = Plan(
        corpus, arguments.out, {}, unit, arguments.language,
        arguments.title, parse_size(arguments.ram, "--ram") if arguments.ram else None, arguments.index,
        arguments.vectors, arguments.recall, arguments.questions, arguments.lexical, arguments.reuse,
        limit=arguments.limit, cluster=cluster_of(arguments, arguments.device),
    )  # fmt: skip
    from wiki_index.build import check_places

    check_places(plan)
    corpus.require_readable()
    encoders = _encoders(arguments, unit)
    for encoder in encoders.values() if arguments.index else ():
        if reason := impossible(arguments.index, encoder.card.dim):
            raise ConfigError(
                f"FAISS makes no index of {arguments.index!r}: {reason}", where="--index",
                expected="such as IVF4096,SQ8, HNSW32,SQ8 or PCA192,IVF1024,PQ48",
                cure="correct it, or take one of the kinds of --help",
            )  # fmt: skip
    return dataclasses.replace(plan, encoders=encoders)


def _note_unused_flags(arguments: argparse.Namespace) -> None:
    """Report flags that have no effect given the others."""
    from kaggle_rag.index.kinds import kind_of

    kind = arguments.index if arguments.index or arguments.ram else "flat"
    if kind and not kind_of(kind).refined:
        for flag, given in (("--recall", arguments.recall != RECALL), ("--questions", arguments.questions)):
            if given:
                print(f"note: {flag} has no effect: {kind} searches every vector", file=sys.stderr)


def _encoders(arguments: argparse.Namespace, unit: Unit) -> dict[str, Encoder]:
    """The encoders by retriever name."""
    from kaggle_rag.index.encoder import Encoder
    from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
    from wiki_index.plan import TITLE_TOKENS, retriever_name

    window = unit.size + (TITLE_TOKENS if arguments.title else 0) if unit.kind == "window" else None
    names = arguments.encoder or [DEFAULT_ENCODER]
    if len({retriever_name(name) for name in names}) < len(names):
        raise ConfigError("two encoders have the same name", where="--encoder", cure="rename a folder")
    encoders = {
        retriever_name(name): Encoder(
            name, device=arguments.device, online=arguments.online, window=window,
            precision=_precision(arguments, retriever_name(name)),
        )
        for name in names
    }  # fmt: skip
    for retriever, encoder in encoders.items():
        query, passage, source = encoder.prompts
        prompts = f"queries begin with {query!r}, passages with {passage!r}"
        message = prompts if query or passage else "texts are encoded without a prompt"
        print(f"{retriever}: {message} ({source})", file=sys.stderr)
        if unit.kind == "article" and (most := encoder.card.max_tokens):
            print(
                f"note: {retriever} reads the first {most:,} tokens of an article and finds nothing by the "
                "rest; --unit window:SIZE/OVERLAP cuts articles into passages that it reads whole",
                file=sys.stderr,
            )
    return encoders


def _precision(arguments: argparse.Namespace, name: str) -> str:
    from wiki_index.precision import earlier_precision

    asked: str = arguments.precision
    return earlier_precision(name, arguments.out, arguments.reuse) or asked if asked == "auto" else asked
