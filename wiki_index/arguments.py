"""The flags of ``python -m wiki_index``, and help that teaches."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from kaggle_rag.runtime.cluster import cluster_flags
from kaggle_rag.runtime.flags import ENCODER_HELP, count_of

BUILD = """\
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
node; runs with and without Ray can resume each other's work."""

CHECK = """\
examples:
  python -m wiki_index check index/
  python -m wiki_index check --corpus enwiki-pages-articles.xml.bz2 --every 100 --json corpus.json

--corpus compares the sentences that an index would hold with a rougher reading of the source: it
reports lost numbers and formulae, and counts holes ("a mass of , where") left by content that was
lost before the corpus was made."""


OVERVIEW = """\
examples:
  python -m wiki_index check --corpus wikipedia/20231101.en/ --every 100
  python -m wiki_index build wikipedia/20231101.en/ index/ --ram 2GB --lexical --dry-run
  python -m wiki_index build wikipedia/20231101.en/ index/ --ram 2GB --lexical
  python -m wiki_index search index/ "Which moon of Saturn has an atmosphere?" -k 5

COMMAND --help lists its flags. A killed build resumes when you rerun the same command."""


def build_flags(build: argparse.ArgumentParser) -> None:
    _content_flags(build)
    _search_flags(build)
    _run_flags(build)


def _content_flags(build: argparse.ArgumentParser) -> None:
    """Corpus, passages and vectors."""
    build.add_argument("corpus", metavar="CORPUS", help="file or folder of articles")
    build.add_argument("out", metavar="OUT", type=Path, help="folder to write the index to")
    _skip_others(build)
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
        "--language", type=_language, default="en",
        help="language of the sentence splitter: a code such as en, de, zh",
    )  # fmt: skip


def _skip_others(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--skip-others", action="store_true",
        help="skip tables of a folder that lack columns title and text (default: refuse them)",
    )  # fmt: skip


def _language(text: str) -> str:
    # The splitter accepts any word, and falls back to English rules.
    if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a language code such as en, de, zh")
    return text


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
        "--recall", type=float, default=0.98,
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


def search_flags(search: argparse.ArgumentParser) -> None:
    """Flags of ``search``."""
    search.add_argument("index", metavar="INDEX")
    search.add_argument("text", metavar="TEXT")
    search.add_argument("-k", type=int, default=10, help="number of passages (default: 10)")
    search.add_argument("--exact", action="store_true", help="search all stored vectors, not the FAISS index")
    search.add_argument(
        "--retriever", metavar="NAME", help="a dense retriever of the index, or bm25 (default: the first)"
    )  # fmt: skip
    search.add_argument("--encoder", help="current location of the index's encoder (same weights)")
    search.add_argument("--json", action="store_true", help="print JSON")


def measure_flags(measure: argparse.ArgumentParser) -> None:
    """Flags of ``measure``."""
    measure.add_argument("index", metavar="INDEX")
    measure.add_argument(
        "--questions", type=Path, help="if they have answers, MAP@3 too (default: halves of passages)"
    )
    measure.add_argument(
        "--kinds", help="separated by commas, or by semicolons if FAISS's descriptions are among them "
        "(default: the index's own and all smaller ones)"
    )
    measure.add_argument("--recall", type=float, default=0.98, help="target recall@10 (default: 0.98)")
    measure.add_argument("-k", type=int, default=10, help="passages per query (default: 10)")
    measure.add_argument(
        "--limit", type=count_of("questions"), metavar="N", help="ask only the first N questions"
    )
    measure.add_argument("--encoder", help="current location of the index's encoder (same weights)")
    measure.add_argument(
        "--folder", type=Path, help="scratch space for building kinds (default: the temporary folder)"
    )
    measure.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers as JSON")


def fit_flags(fit: argparse.ArgumentParser) -> None:
    """Flags of ``fit``."""
    fit.add_argument("index", metavar="INDEX")
    fit.add_argument("--questions", type=Path, required=True, help="the labelled questions")
    fit.add_argument(
        "--gold", metavar="COLUMN", required=True, help="their column with the answering passage"
    )  # fmt: skip
    fit.add_argument(
        "--limit", type=count_of("questions"), metavar="N", help="use only the first N questions"
    )
    fit.add_argument("--encoder", action="append", metavar="FOLDER", help=ENCODER_HELP)
    fit.add_argument("--json", action="store_true", help="print JSON")


def check_flags(check: argparse.ArgumentParser) -> None:
    """Flags of ``check``."""
    checked = check.add_mutually_exclusive_group(required=True)
    checked.add_argument("index", metavar="INDEX", nargs="?", help="manifest, checksums, row counts, encoder")
    checked.add_argument("--corpus", metavar="CORPUS", help="numbers and formulae lost, duplicates, outliers")
    check.add_argument("--encoder", action="append", metavar="FOLDER", help=ENCODER_HELP)
    check.add_argument("--every", type=int, default=1, metavar="N", help="check only every Nth corpus page")
    check.add_argument("--language", type=_language, default="en", help="corpus language (default: en)")
    _skip_others(check)
    check.add_argument("--json", type=Path, metavar="FILE", help="write the findings on a corpus as JSON")
