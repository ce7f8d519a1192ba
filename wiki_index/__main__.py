"""python -m wiki_index  build · search · measure · fit · check"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_rag.index.kinds import KINDS, describe
from kaggle_rag.index.manifest import Manifest
from kaggle_rag.runtime.cluster import cluster_of
from kaggle_rag.runtime.errors import ConfigError, run_program
from kaggle_rag.runtime.flags import encoders_of
from kaggle_rag.runtime.program import Command, Program
from kaggle_rag.runtime.report import show
from kaggle_rag.runtime.words import counted
from wiki_index import arguments as arguments_of

_RECALL = 0.98

if TYPE_CHECKING:
    from kaggle_rag.data.questions import Questions
    from kaggle_rag.index.encoder import Encoder
    from kaggle_rag.index.index import Index
    from kaggle_rag.text.units import Unit
    from wiki_index.corpus import Corpus
    from wiki_index.plan import Plan


def _build(arguments: argparse.Namespace) -> int:
    plan = _plan(arguments)
    from kaggle_rag.index.manifest import Manifest
    from wiki_index.build import build, check
    from wiki_index.progress import left_out_lines

    if arguments.dry_run:
        check(plan)
        _print_forecast(plan)
        return 0
    unfinished = plan.work.exists()
    usages = build(plan)
    for usage in usages:
        print(usage, file=sys.stderr)
    manifest = Manifest.read(arguments.out)
    if left_out := left_out_lines(manifest.left_out):
        print(left_out, file=sys.stderr)
    outcome = "ready" if usages or unfinished else "already complete; nothing to do"
    print(f"{arguments.out}: {outcome}")
    _print_other_kinds(manifest)
    if arguments.limit:
        print(f"PARTIAL: only the first {counted(arguments.limit, 'article')} (--limit)", file=sys.stderr)
    return 0


def _print_other_kinds(manifest: Manifest) -> None:
    """Repeat, after the progress bars, why an index is of a different kind than requested."""
    from kaggle_rag.index.kinds import unfit

    asked = manifest.asked["kind"]
    for name, card in manifest.dense.items():
        if asked and card.kind != asked:
            reason = unfit(asked, manifest.passages, card.encoder.dim)
            print(f"  {name}: {card.kind} instead of {asked}: {reason}")


def _plan(arguments: argparse.Namespace) -> Plan:
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
    _require_recall(arguments.recall)
    corpus = Corpus.open(arguments.corpus, skip_others=arguments.skip_others)
    _note_files(corpus)
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


def _note_files(corpus: Corpus) -> None:
    """Report the files of a folder that are not read and those that seem to be missing."""
    if corpus.aside:
        names = ", ".join(str(file.relative_to(corpus.root)) for file in corpus.aside[:3])
        print(
            f"{len(corpus.aside)} file(s) next to the articles are not read, such as {names}",
            file=sys.stderr,
        )
    if corpus.gaps:
        print(
            f"{len(corpus.gaps)} numbered file(s) seem to be missing, such as {corpus.gaps[0]}",
            file=sys.stderr,
        )


def _note_unused_flags(arguments: argparse.Namespace) -> None:
    """Report flags that have no effect given the others."""
    from kaggle_rag.index.kinds import kind_of

    kind = arguments.index if arguments.index or arguments.ram else "flat"
    if kind and not kind_of(kind).refined:
        for flag, given in (("--recall", arguments.recall != _RECALL), ("--questions", arguments.questions)):
            if given:
                print(f"note: {flag} has no effect: {kind} searches every vector", file=sys.stderr)


def _require_recall(recall: float) -> None:
    if not 0 < recall <= 1:
        raise ConfigError(f"{recall} is not a recall", where="--recall", expected="above 0, at most 1")


def _require_passages(k: int) -> None:
    if k < 1:
        raise ConfigError(f"cannot search for {k} passages", where="-k", expected="1 or more")


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
    return encoders


def _print_forecast(plan: Plan) -> None:
    from kaggle_rag.runtime.errors import show_size
    from kaggle_rag.runtime.files import require_space
    from wiki_index.forecast import forecast

    f = forecast(plan)
    spread = f" with one worker (Ray has room for {f.workers} now)" if plan.cluster else ""
    print(
        f"{counted(f.articles, 'article')}, about {counted(f.passages, 'passage')}; "
        f"about {f.seconds / 60:.0f} min on {next(iter(plan.encoders.values())).device}{spread}, "
        f"{show_size(f.disk)} of disk, "
        f"{show_size(f.ram)} of RAM, index kind {', '.join(f.kinds.values())}. Nothing was written."
    )
    require_space(plan.work, f.disk)


def _precision(arguments: argparse.Namespace, name: str) -> str:
    from wiki_index.precision import earlier_precision

    asked: str = arguments.precision
    return earlier_precision(name, arguments.out, arguments.reuse) or asked if asked == "auto" else asked


def _search(arguments: argparse.Namespace) -> int:
    from kaggle_rag.index.index import Index

    _require_passages(arguments.k)
    if not arguments.text.strip():
        raise ConfigError("nothing to search for", where="TEXT", expected="a question or some words")
    if arguments.encoder and arguments.retriever == "bm25":
        raise ConfigError("bm25 uses no encoder", where="--encoder", cure="leave --encoder out")
    if arguments.exact and arguments.retriever == "bm25":
        raise ConfigError("bm25 has no vectors to search", where="--exact", cure="leave --exact out")
    index = Index(arguments.index)
    measure, scores, rows = _run_query(index, arguments)
    hits = [
        {measure: float(score), "row": int(row), **index.passages[int(row)]._asdict()}
        for score, row in zip(scores, rows)
        if row >= 0
    ]
    if arguments.json:
        print(json.dumps(hits, indent=2, ensure_ascii=False))
        return 0
    if not hits:
        print("no passage contains any of these words", file=sys.stderr)
    if hits:
        scale = "squared distance: 0 is the same text" if measure == "distance" else "score: higher is better"
        print(f"({scale})  title  |  text")
    for hit in hits:
        print(f"{hit[measure]:.3f}  {hit['title']}  |  {hit['text']}")
    return 0


def _run_query(index: Index, arguments: argparse.Namespace) -> tuple[str, Any, Any]:
    """The name of the measure, its values, and the rows of the best passages."""
    name = arguments.retriever or index.manifest.default
    if name == "bm25":
        scores, rows = index.lexical().search([arguments.text], arguments.k)
        return "score", scores[0], rows[0]
    if name not in index.dense:
        raise ConfigError(
            f"no retriever {name!r} in this index",
            where="--retriever",
            expected="one of " + ", ".join([*index.dense, "bm25"]),
        )
    dense = index.dense[name]
    encoder = index.encoder(name, location=arguments.encoder)
    search = dense.search_exact if arguments.exact else dense.search
    distances, rows = search(encoder.encode_queries([arguments.text]), arguments.k)
    return "distance", distances[0], rows[0]


def _check(arguments: argparse.Namespace) -> int:
    if arguments.corpus:
        if arguments.encoder:
            raise ConfigError("--encoder applies to an index", cure="leave it out of check --corpus")
        return _check_corpus(arguments)
    if arguments.json or arguments.every != 1 or arguments.language != "en" or arguments.skip_others:
        raise ConfigError(
            "--json, --every, --language and --skip-others apply to a corpus",
            cure="pass the corpus: check --corpus CORPUS",
        )
    from kaggle_rag.index.index import Index

    index = Index(arguments.index, verify_content=True)
    manifest = index.manifest
    _load_encoders(index, arguments)
    print(
        f"{arguments.index}: intact. {counted(manifest.articles, 'article')}, "
        f"{counted(len(index), 'passage')} ({manifest.unit}); checksums, row counts and encoders agree."
    )
    for name, dense in index.dense.items():
        card = dense.card
        print(
            f"  {name}: {card.encoder.dim} dimensions by {card.encoder.name} ({card.encoder.sha256[:12]}), "
            f"{card.kind} ({card.factory}), vectors in {card.vectors}"
            + (f", nprobe {card.nprobe}, depth {card.depth}, recall@10 {card.recall}" if card.queries else "")
        )
    _print_other_kinds(manifest)
    if manifest.lexical_rows:
        print(f"  bm25: {len(manifest.lexical_rows)} part(s)")
    return 0


def _check_corpus(arguments: argparse.Namespace) -> int:
    from kaggle_rag.runtime.files import write_json
    from wiki_index.check.lint import as_json, as_table, lint
    from wiki_index.corpus import Corpus

    if arguments.every < 1:
        raise ConfigError(
            f"cannot take every {arguments.every}th page", where="--every", expected="1 or more"
        )
    corpus = Corpus.open(arguments.corpus, skip_others=arguments.skip_others)
    _note_files(corpus)
    linter = lint(corpus, arguments.language, arguments.every)
    print(as_table(linter))
    if arguments.json:
        write_json(arguments.json, as_json(linter, corpus, arguments.every))
    return 0


def _kinds(text: str | None) -> list[str]:
    """Kinds separated by commas, or by semicolons where descriptions, which hold commas, are among them."""
    if not text:
        return []
    described = ";" in text or text[:1].isupper()
    return [each.strip() for each in text.split(";" if described else ",")]


def _measure(arguments: argparse.Namespace) -> int:
    from kaggle_rag.index.index import Index
    from kaggle_rag.index.kinds import kind_of
    from kaggle_rag.runtime.files import write_json
    from wiki_index.measure import Meter

    _require_recall(arguments.recall)
    _require_passages(arguments.k)
    for kind in _kinds(arguments.kinds):
        kind_of(kind, where="--kinds")
    if arguments.limit and not arguments.questions:
        raise ConfigError("--limit applies to questions, and none are given", cure="add --questions")
    questions = _questions(arguments) if arguments.questions else None
    index = Index(arguments.index)
    own = index.default.card.kind
    smaller = list(KINDS)[list(KINDS).index(own) :] if own in KINDS else [own]
    kinds = _kinds(arguments.kinds) or smaller
    if not arguments.kinds and own in KINDS and kinds != list(KINDS):
        larger = ", ".join(kind for kind in KINDS if kind not in kinds)
        note = f"note: {larger} not measured: larger than the index's own {own}; --kinds selects any kind"
        print(note, file=sys.stderr)
    encoder = index.encoder(location=arguments.encoder)
    folder = arguments.folder or Path(tempfile.gettempdir())
    report = Meter(index, encoder, questions, arguments.k, folder).report(kinds, arguments.recall)
    show(report)
    if arguments.json:
        write_json(arguments.json, report.as_json())
    return 0


def _fit(arguments: argparse.Namespace) -> int:
    from kaggle_rag.data.cells import text_of
    from kaggle_rag.data.columns import require_columns
    from kaggle_rag.data.tables import read_rows
    from kaggle_rag.index.index import Index
    from kaggle_rag.runtime.errors import InputError
    from wiki_index.fit import fit

    questions, gold = _questions(arguments), []
    for number, row in enumerate(itertools.islice(read_rows(arguments.questions), arguments.limit), 1):
        where = f"{arguments.questions}, row {number}"
        require_columns(row, [arguments.gold], where, "the column that --gold names, in every row")
        text = text_of(row[arguments.gold], f"{where}, column {arguments.gold}") or ""
        if not text.strip():
            raise InputError(
                f"no passage in column {arguments.gold!r}",
                where=where,
                expected="one in every row",
                cure="fill the cell or drop the row",
            )
        gold.append(text)
    index = Index(arguments.index)
    encoders = _load_encoders(index, arguments)
    fitted = fit(index, encoders, questions, gold)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(fitted), indent=2))
        return 0
    print(f"{counted(fitted.questions, 'question')}; on the held-out half:")
    for name, (ndcg, recall) in fitted.held_out.items():
        print(f"  {name:20} nDCG@10 {ndcg:.4f}  recall@10 {recall:.4f}")
    print(f"fitted: nDCG@10 {fitted.gain} (95% interval) on that half")
    if fitted.refused:
        print(f"not recommended: {fitted.refused}; the setting below uses that retriever alone")
    print(f"\nfor solution.yaml:\ncontexts: {fitted.setting.yaml()}")
    return 0


def _load_encoders(index: Index, arguments: argparse.Namespace) -> dict[str, Encoder]:
    """The encoders of all dense retrievers, from their current locations."""
    default, others = encoders_of(arguments.encoder)
    locations = {**others, **({index.manifest.default: default} if default else {})}
    if unknown := [name for name in locations if name not in index.dense]:
        raise ConfigError(
            f"no retriever {unknown[0]!r} in this index", where="--encoder",
            expected="one of " + ", ".join(index.dense),
        )  # fmt: skip
    return {name: index.encoder(name, location=locations.get(name)) for name in index.dense}


def _questions(arguments: argparse.Namespace) -> Questions:
    from kaggle_rag.data.questions import Questions

    questions = Questions.read(arguments.questions)
    return questions.take(range(min(arguments.limit or len(questions), len(questions))))


PROGRAM = Program(
    "wiki_index", "Build, search and check an index of passages.", arguments_of.OVERVIEW,
    {
        "build": Command(
            "build an index from a corpus",
            _build, arguments_of.build_flags, f"{arguments_of.BUILD}\n\n{describe()}",
        ),
        "search": Command("find the passages nearest to a text", _search, arguments_of.search_flags),
        "measure": Command(
            "compare the recall, speed, memory and answers of each kind of index",
            _measure, arguments_of.measure_flags,
        ),
        "fit": Command(
            "fit retriever weights on questions whose answering passage is known",
            _fit, arguments_of.fit_flags,
        ),
        "check": Command(
            "verify an index, or find what a corpus loses",
            _check, arguments_of.check_flags, arguments_of.CHECK,
        ),
    },
)  # fmt: skip
main = PROGRAM.main

if __name__ == "__main__":
    sys.exit(run_program(main))
