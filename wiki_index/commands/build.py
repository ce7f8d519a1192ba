"""``python -m wiki_index build``: its flags, and from them an index, or what it would need."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_rag.index.kinds import describe
from kaggle_rag.runtime.cluster import cluster_flags
from kaggle_rag.runtime.flags import count_of
from kaggle_rag.runtime.words import counted
from wiki_index.commands.build_plan import plan_of
from wiki_index.commands.shared import RECALL, language_code, show_other_kinds, skip_others_flag

if TYPE_CHECKING:
    from wiki_index.plan import Plan

EXAMPLES = """\
examples:
  python -m wiki_index build articles.parquet index/
  python -m wiki_index build wikipedia/20231101.en/ index/ --dry-run
  python -m wiki_index build wikipedia/20231101.en/ index/ --ram 4GB --lexical
  python -m wiki_index build enwiki-20250101-pages-articles-multistream.xml.bz2 index/
  python -m wiki_index build notes/ index/ --unit window:254/64 --encoder BAAI/bge-small-en-v1.5 --online
  python -m wiki_index build new/ index2/ --reuse index/        # encodes only what changed
  python -m wiki_index build wikipedia/20231101.en/ /nfs/index --workers ray --ray-address auto

CORPUS is a file, or a folder of files, in one of these formats:
  .xml          a MediaWiki export: pages-articles.xml.bz2, multistream too, whole or in parts
  .json         a CirrusSearch dump (.json.gz), or JSON lines with title and text
  .zim          a Kiwix archive (needs libzim: pip install libzim)
  .parquet, .jsonl, .csv   columns title and text, optionally id: Hugging Face wikimedia/wikipedia
  .txt          one article per file
  WikiExtractor's output: <doc ...> files or --json, named wiki_00 (its default) or .txt
  .zimaa, .zimab, ...      the parts of a ZIM archive
Text files may be compressed: .gz, .bz2. They are UTF-8, or UTF-16 or UTF-32 with a byte order mark.
Table cells that are not text are converted: numbers to their shortest form, dates to ISO 8601, bytes
as UTF-8, a list of texts to one line each; nested structures are refused. In a folder, hidden files and
archiver leftovers (__MACOSX, ._*, .ipynb_checkpoints) are skipped. Redirects, disambiguation pages and
pages outside the article namespace are left out and counted in the manifest.

The work happens in OUT.building. If the build is killed at any point, rerun the same command: it
resumes and produces the same bytes.

With --workers ray, shards are encoded wherever a cluster has room, on its GPUs if it has any, and a
lost node's shards are redone elsewhere. OUT, --reuse and the kit must be at the same path on every
node; runs with and without Ray can resume each other's work.

""" + describe()


def flags(build: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    _content_flags(build)
    _search_flags(build)
    _run_flags(build)


def _content_flags(build: argparse.ArgumentParser) -> None:
    """Corpus, passages and vectors."""
    build.add_argument("corpus", metavar="CORPUS", help="file or folder of articles")
    build.add_argument("out", metavar="OUT", type=Path, help="folder to write the index to")
    skip_others_flag(build)
    build.add_argument(
        "--unit", default="sentence",
        help="a passage is a sentence, an article, or window:SIZE/OVERLAP tokens (default: sentence)",
    )  # fmt: skip
    build.add_argument(
        "--encoder", action="append",
        help="folder or hub name (default: all-MiniLM-L6-v2); repeat to add retrievers to the index",
    )  # fmt: skip
    build.add_argument(
        "--precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto",
        help="precision of the encoder (default: auto, that of an earlier build or --reuse, else the "
        "device's fastest: fp16 on a GPU, bf16 on a CPU that supports it, fp32 on others)",
    )  # fmt: skip
    build.add_argument("--title", action="store_true", help="embed 'title text' instead of the text alone")
    build.add_argument(
        "--language", type=language_code, default="en",
        help="language of the sentence splitter: a code such as en, de, zh",
    )  # fmt: skip


def _search_flags(build: argparse.ArgumentParser) -> None:
    """The kind of index, and how it is tuned."""
    build.add_argument(
        "--ram", metavar="SIZE",
        help="memory for building and searching, e.g. 2GB: selects the most exact kind of index that fits",
    )  # fmt: skip
    build.add_argument("--index", metavar="KIND", help="use one of the kinds below instead")
    build.add_argument(
        "--vectors", choices=["fp32", "fp16", "int8"],
        help="precision of the vectors stored on disk (default: the kind's own)",
    )  # fmt: skip
    build.add_argument(
        "--recall", type=float, default=RECALL,
        help="target recall@10 of a compressed index, relative to exact search (default: 0.98)",
    )  # fmt: skip
    build.add_argument(
        "--questions", type=Path,
        help="measure that recall with these questions (default: halves of passages)",
    )  # fmt: skip
    build.add_argument("--lexical", action="store_true", help="also build BM25 parts")
    build.add_argument(
        "--reuse", metavar="INDEX", type=Path, help="reuse the vectors of texts that INDEX already holds"
    )  # fmt: skip


def _run_flags(build: argparse.ArgumentParser) -> None:
    """Flags that change how the work is done, but not the index."""
    build.add_argument("--device", help="cpu or cuda (default: cuda if available)")
    cluster_flags(build, "encode")
    build.add_argument(
        "--limit", type=count_of("articles"), metavar="N", help="only the first N articles, for a trial"
    )
    build.add_argument("--online", action="store_true", help="allow downloading the encoder")
    build.add_argument("--dry-run", action="store_true", help="report what it would need, write nothing")


def run(arguments: argparse.Namespace) -> int:
    plan = plan_of(arguments)
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
    show_other_kinds(manifest)
    if arguments.limit:
        print(f"PARTIAL: only the first {counted(arguments.limit, 'article')} (--limit)", file=sys.stderr)
    return 0


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
