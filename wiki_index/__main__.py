"""python -m wiki_index  build · search · measure · fit · check"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_rag.errors import ConfigError, run_program
from kaggle_rag.retrieval.kinds import KINDS, describe

if TYPE_CHECKING:
    from kaggle_rag.retrieval.index import Index
    from wiki_index.plan import Cluster

_BUILD = """\
examples:
  python -m wiki_index build articles.parquet index/
  python -m wiki_index build wikipedia/20231101.en/ index/ --dry-run
  python -m wiki_index build wikipedia/20231101.en/ index/ --ram 4GB --lexical
  python -m wiki_index build enwiki-20250101-pages-articles-multistream.xml.bz2 index/
  python -m wiki_index build notes/ index/ --unit window:254/64 --encoder BAAI/bge-small-en-v1.5 --online
  python -m wiki_index build new/ index2/ --reuse index/        (encodes only what changed)
  python -m wiki_index build wikipedia/20231101.en/ /nfs/index --workers ray --ray-address auto

CORPUS is a file, or a folder of files, of these formats:
  .xml          a MediaWiki export: pages-articles.xml.bz2, multistream too, whole or in parts
  .json         a CirrusSearch dump (.json.gz), or JSON lines with title and text
  .zim          a Kiwix archive (needs libzim: pip install libzim)
  .parquet, .jsonl, .csv   columns title and text, id may be there: Hugging Face wikimedia/wikipedia
  .txt          one article a file
Texts may be compressed: .gz, .bz2. Redirects, disambiguations and pages outside the articles'
namespace are left out; the manifest counts them.

The work happens in OUT.building. Killed at any point, the same command goes on where it was and
ends with the same bytes.

With --workers ray the shards are encoded where a cluster has room, on its GPUs if it has some, and a
lost node's shards are done again elsewhere. OUT, --reuse and the kit must lie at the same path on every
node; a run with Ray and one without take up each other's work."""

_CHECK = """\
examples:
  python -m wiki_index check index/
  python -m wiki_index check --corpus enwiki-pages-articles.xml.bz2 --every 100 --json corpus.json

--corpus compares the sentences that an index would hold with the source, read in a rougher way:
numbers and formulae that are in the one and not in the other; and counts holes ("a mass of , where")
that stand for what was lost before the corpus was made."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m wiki_index", description="Build, search and check an index of passages."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = commands.add_parser(
        "build", help="corpus to index", epilog=f"{_BUILD}\n\n{describe()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    build.add_argument("corpus", metavar="CORPUS", help="file or folder of articles")
    build.add_argument("out", metavar="OUT", type=Path, help="folder to write the index to")
    build.add_argument(
        "--unit", default="sentence",
        help="one passage is a sentence, an article, or window:SIZE/OVERLAP tokens (default: sentence)",
    )  # fmt: skip
    build.add_argument(
        "--encoder", action="append",
        help="folder or hub name (default: all-MiniLM-L6-v2); given again, further retrievers of the index",
    )  # fmt: skip
    build.add_argument(
        "--precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto",
        help="what the encoder computes in (default: auto, what a build or --reuse began with, else the "
        "device's fastest: fp16 on a GPU, bf16 on a CPU made for it, fp32 on others)",
    )  # fmt: skip
    build.add_argument("--title", action="store_true", help="embed 'title text' instead of the text alone")
    build.add_argument("--language", default="en", help="language of the sentence splitter (default: en)")
    build.add_argument(
        "--ram", metavar="SIZE",
        help="memory for building and searching, e.g. 2GB: takes the most exact kind of index that fits",
    )  # fmt: skip
    build.add_argument("--index", metavar="KIND", help="one kind of those below instead")
    build.add_argument(
        "--vectors", choices=["fp32", "fp16", "int8"],
        help="precision of the vectors kept on disk (default: the kind's own)",
    )  # fmt: skip
    build.add_argument(
        "--recall", type=float, default=0.98,
        help="recall@10 against exact search that a compressed index is searched for (default: 0.98)",
    )  # fmt: skip
    build.add_argument(
        "--questions", type=Path,
        help="measure that recall with these questions (default: with halves of passages)",
    )  # fmt: skip
    build.add_argument("--lexical", action="store_true", help="make BM25 parts beside the vectors")
    build.add_argument(
        "--reuse", metavar="INDEX", type=Path, help="take over the vectors of texts that INDEX holds already"
    )  # fmt: skip
    build.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    build.add_argument(
        "--workers", choices=["1", "ray"], default="1",
        help="who encodes: 1, this process (default); ray, the nodes of a Ray cluster (needs ray)",
    )  # fmt: skip
    build.add_argument(
        "--ray-address", metavar="ADDR", help="auto or host:port of a running one (default: start one here)"
    )
    build.add_argument("--online", action="store_true", help="allow to download the encoder")
    build.add_argument("--dry-run", action="store_true", help="say what it would take, write nothing")

    search = commands.add_parser("search", help="nearest passages to a text")
    search.add_argument("index", metavar="INDEX")
    search.add_argument("text", metavar="TEXT")
    search.add_argument("-k", type=int, default=10, help="how many (default: 10)")
    search.add_argument("--exact", action="store_true", help="by every stored vector, not the FAISS index")
    search.add_argument(
        "--retriever", metavar="NAME", help="a dense retriever of the index, or bm25 (default: the first)"
    )  # fmt: skip
    search.add_argument("--encoder", help="where the index's encoder lies now (same weights)")
    search.add_argument("--json", action="store_true", help="print JSON")

    measure = commands.add_parser(
        "measure", help="recall, speed, memory and answers of each kind of index, as one table"
    )  # fmt: skip
    measure.add_argument("index", metavar="INDEX")
    measure.add_argument(
        "--questions", type=Path, help="with answers: MAP@3 too (default: halves of passages)"
    )
    measure.add_argument(
        "--kinds", help="with commas between them (default: the index's own and all smaller)"
    )
    measure.add_argument("--recall", type=float, default=0.98, help="what kinds are set for (default: 0.98)")
    measure.add_argument("-k", type=int, default=10, help="passages a query (default: 10)")
    measure.add_argument("--encoder", help="where the index's encoder lies now (same weights)")
    measure.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as JSON too")

    fit = commands.add_parser(
        "fit", help="weights of the retrievers, from questions whose answering passage is known"
    )  # fmt: skip
    fit.add_argument("index", metavar="INDEX")
    fit.add_argument("--questions", type=Path, required=True, help="the labelled questions")
    fit.add_argument(
        "--gold", metavar="COLUMN", required=True, help="their column with the passage that answers"
    )  # fmt: skip
    fit.add_argument("--json", action="store_true", help="print JSON")

    check = commands.add_parser(
        "check", help="is an index whole? what does a corpus lose?", epilog=_CHECK,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    checked = check.add_mutually_exclusive_group(required=True)
    checked.add_argument("index", metavar="INDEX", nargs="?", help="manifest, checksums, row counts, encoder")
    checked.add_argument("--corpus", metavar="CORPUS", help="numbers and formulae lost, duplicates, outliers")
    check.add_argument("--encoder", help="where the index's encoder lies now (same weights)")
    check.add_argument("--every", type=int, default=1, metavar="N", help="of a corpus, every Nth page alone")
    check.add_argument("--language", default="en", help="of a corpus (default: en)")
    check.add_argument("--json", type=Path, metavar="FILE", help="of a corpus, write what was found as JSON")
    return parser


def _build(arguments: argparse.Namespace) -> int:
    from kaggle_rag.errors import show_size
    from kaggle_rag.limits import parse_size
    from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
    from kaggle_rag.retrieval.encoder import Encoder
    from kaggle_rag.retrieval.kinds import kind_of
    from kaggle_rag.retrieval.units import Unit
    from wiki_index.build import build
    from wiki_index.corpus import Corpus
    from wiki_index.means import forecast
    from wiki_index.plan import TITLE_TOKENS, Plan, retriever_name

    unit = Unit.parse(arguments.unit)
    if arguments.index:
        kind_of(arguments.index)
    if not 0 < arguments.recall <= 1:
        raise ConfigError(f"no recall is {arguments.recall}", where="--recall", expected="0 to 1")
    window = unit.size + (TITLE_TOKENS if arguments.title else 0) if unit.kind == "window" else None
    names = arguments.encoder or [DEFAULT_ENCODER]
    encoders = {
        retriever_name(name): Encoder(
            name, device=arguments.device, online=arguments.online, window=window,
            precision=_precision(arguments, retriever_name(name)),
        )
        for name in names
    }  # fmt: skip
    if len(encoders) < len(names):
        raise ConfigError("two encoders have one name", where="--encoder", cure="rename one's folder")
    plan = Plan(
        Corpus.open(arguments.corpus), arguments.out, encoders, unit, arguments.language, arguments.title,
        parse_size(arguments.ram) if arguments.ram else None, arguments.index, arguments.vectors,
        arguments.recall, arguments.questions, arguments.lexical, arguments.reuse,
        cluster=_cluster(arguments),
    )  # fmt: skip
    if arguments.dry_run:
        f = forecast(plan)
        spread = f" by one worker, and Ray has room for {f.workers} now" if plan.cluster else ""
        print(
            f"{f.articles:,} articles, about {f.passages:,} passages; about {f.seconds / 60:.0f} minutes "
            f"on {next(iter(encoders.values())).device}{spread}, {show_size(f.disk)} of disk, "
            f"{show_size(f.ram)} of RAM, index kind {', '.join(f.kinds.values())}. Nothing was written."
        )
        return 0
    unfinished = plan.work.exists()
    usages = build(plan)
    for usage in usages:
        print(usage, file=sys.stderr)
    ended = "ready" if usages or unfinished else "was there already, whole; nothing to do"
    print(f"{arguments.out}: {ended}")
    return 0


def _cluster(arguments: argparse.Namespace) -> Cluster | None:
    from wiki_index.plan import LOCAL, Cluster

    if arguments.workers == "ray":
        return Cluster(arguments.ray_address or LOCAL, arguments.device)
    if arguments.ray_address:
        raise ConfigError("a cluster is named but not used", where="--ray-address", cure="add --workers ray")
    return None


def _precision(arguments: argparse.Namespace, name: str) -> str:
    from wiki_index.precision import begun_in

    asked: str = arguments.precision
    return begun_in(name, arguments.out, arguments.reuse) or asked if asked == "auto" else asked


def _search(arguments: argparse.Namespace) -> int:
    from kaggle_rag.retrieval.index import Index

    if arguments.k < 1:
        raise ConfigError(f"cannot search for {arguments.k} passages", where="-k", expected="1 or more")
    index = Index(arguments.index)
    measure, scores, rows = _found(index, arguments)
    hits = [
        {measure: float(score), "row": int(row), **index.passages[int(row)]._asdict()}
        for score, row in zip(scores, rows)
        if row >= 0
    ]
    if arguments.json:
        print(json.dumps(hits, indent=2, ensure_ascii=False))
        return 0
    for hit in hits:
        print(f"{hit[measure]:.3f}  {hit['title']}  |  {hit['text']}")
    return 0


def _found(index: Index, arguments: argparse.Namespace) -> tuple[str, Any, Any]:
    """What the numbers are called, the numbers, and the rows of the best passages."""
    from kaggle_rag.retrieval.encoder import Encoder

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
    encoder = Encoder.of_index(dense.card.encoder, name=arguments.encoder)
    search = dense.search_exact if arguments.exact else dense.search
    distances, rows = search(encoder.encode_queries([arguments.text]), arguments.k)
    return "distance", distances[0], rows[0]


def _check(arguments: argparse.Namespace) -> int:
    if arguments.corpus:
        return _check_corpus(arguments)
    if arguments.json or arguments.every != 1:
        raise ConfigError("--json and --every are of a corpus", cure="name the corpus: check --corpus CORPUS")
    from kaggle_rag.retrieval.encoder import Encoder
    from kaggle_rag.retrieval.index import Index

    index = Index(arguments.index, verify_content=True)
    manifest = index.manifest
    for dense in index.dense.values():
        Encoder.of_index(dense.card.encoder, name=arguments.encoder if len(index.dense) == 1 else None)
    print(
        f"{arguments.index}: whole. {manifest.articles:,} articles, {len(index):,} passages "
        f"({manifest.unit}); checksums, row counts and encoders agree."
    )
    for name, dense in index.dense.items():
        card = dense.card
        print(
            f"  {name}: {card.encoder.dim} dimensions by {card.encoder.name} ({card.encoder.sha256[:12]}), "
            f"{card.kind} ({card.factory}), vectors in {card.vectors}"
            + (f", nprobe {card.nprobe}, depth {card.depth}, recall@10 {card.recall}" if card.queries else "")
        )
    if manifest.lexical_rows:
        print(f"  bm25: {len(manifest.lexical_rows)} part(s)")
    return 0


def _check_corpus(arguments: argparse.Namespace) -> int:
    from kaggle_rag.artifacts import write_json
    from wiki_index.corpus import Corpus
    from wiki_index.lint import as_json, as_table, lint

    if arguments.every < 1:
        raise ConfigError(
            f"cannot take every {arguments.every}th page", where="--every", expected="1 or more"
        )
    corpus = Corpus.open(arguments.corpus)
    linter = lint(corpus, arguments.language, arguments.every)
    print(as_table(linter))
    if arguments.json:
        write_json(arguments.json, as_json(linter, corpus, arguments.every))
    return 0


def _measure(arguments: argparse.Namespace) -> int:
    import dataclasses

    from kaggle_rag.artifacts import write_json
    from kaggle_rag.questions import Questions
    from kaggle_rag.retrieval.encoder import Encoder
    from kaggle_rag.retrieval.index import Index
    from wiki_index.measure import Meter, table

    index = Index(arguments.index)
    own = index.default.card.kind
    kinds = arguments.kinds.split(",") if arguments.kinds else list(KINDS)[list(KINDS).index(own) :]
    encoder = Encoder.of_index(index.manifest.encoder, name=arguments.encoder)
    questions = Questions.read(arguments.questions) if arguments.questions else None
    rows = Meter(index, encoder, questions, arguments.k).rows(kinds, arguments.recall)
    print(table(rows))
    if arguments.json:
        write_json(arguments.json, {"rows": [dataclasses.asdict(row) for row in rows]})
    return 0


def _fit(arguments: argparse.Namespace) -> int:
    import dataclasses

    from kaggle_rag.errors import InputError
    from kaggle_rag.questions import Questions
    from kaggle_rag.retrieval.encoder import Encoder
    from kaggle_rag.retrieval.index import Index
    from kaggle_rag.tables import read_rows
    from wiki_index.fit import fit

    questions, gold = Questions.read(arguments.questions), []
    for number, row in enumerate(read_rows(arguments.questions), 1):
        if not str(row.get(arguments.gold) or "").strip():
            raise InputError(
                f"no passage in column {arguments.gold!r}",
                where=f"{arguments.questions}, row {number}",
                expected="one in every row",
                cure="columns found: " + ", ".join(map(str, row)),
            )
        gold.append(str(row[arguments.gold]))
    index = Index(arguments.index)
    encoders = {name: Encoder.of_index(dense.card.encoder) for name, dense in index.dense.items()}
    found = fit(index, encoders, questions, gold)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(found), indent=2))
        return 0
    print(f"{found.questions:,} questions; on the half that nothing was fitted on:")
    for name, (ndcg, recall) in found.held_out.items():
        print(f"  {name:20} nDCG@10 {ndcg:.4f}  recall@10 {recall:.4f}")
    print(f"\nfor solution.yaml:\ncontexts: {found.setting.yaml()}")
    return 0


COMMANDS = {"build": _build, "fit": _fit, "measure": _measure, "search": _search, "check": _check}


def main() -> int:
    arguments = _parser().parse_args()
    return COMMANDS[arguments.command](arguments)


if __name__ == "__main__":
    sys.exit(run_program(main))
