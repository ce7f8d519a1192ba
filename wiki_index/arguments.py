"""The flags of ``python -m wiki_index``, and help that teaches."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

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

CORPUS is a file, or a folder of files, of these formats:
  .xml          a MediaWiki export: pages-articles.xml.bz2, multistream too, whole or in parts
  .json         a CirrusSearch dump (.json.gz), or JSON lines with title and text
  .zim          a Kiwix archive (needs libzim: pip install libzim)
  .parquet, .jsonl, .csv   columns title and text, id may be there: Hugging Face wikimedia/wikipedia
  .txt          one article a file
  WikiExtractor's output: <doc ...> files or --json, named wiki_00 as it names them or .txt
  .zimaa, .zimab, ...      the parts of a ZIM archive
Texts may be compressed: .gz, .bz2. They are UTF-8, or UTF-16 or UTF-32 with a byte order mark. A cell of
a table that is no text becomes one by a rule: numbers in their shortest form, dates as ISO 8601 has them,
bytes as UTF-8, a list of texts line by line; structures are refused. Of a folder, hidden files and what
archivers leave (__MACOSX, ._*, .ipynb_checkpoints) are passed over. Redirects, disambiguations and pages
outside the articles' namespace are left out; the manifest counts them.

The work happens in OUT.building. Killed at any point, the same command resumes where it was and
ends with the same bytes.

With --workers ray the shards are encoded where a cluster has room, on its GPUs if it has some, and a
lost node's shards are done again elsewhere. OUT, --reuse and the kit must lie at the same path on every
node; a run with Ray and one without take up each other's work."""

CHECK = """\
examples:
  python -m wiki_index check index/
  python -m wiki_index check --corpus enwiki-pages-articles.xml.bz2 --every 100 --json corpus.json

--corpus compares the sentences that an index would hold with the source, read in a rougher way:
numbers and formulae that are in the one and not in the other; and counts holes ("a mass of , where")
that stand for what was lost before the corpus was made."""


OVERVIEW = """\
examples:
  python -m wiki_index check --corpus wikipedia/20231101.en/ --every 100
  python -m wiki_index build wikipedia/20231101.en/ index/ --ram 2GB --lexical --dry-run
  python -m wiki_index build wikipedia/20231101.en/ index/ --ram 2GB --lexical
  python -m wiki_index search index/ "Which moon of Saturn has an atmosphere?" -k 5

COMMAND --help lists its flags. Killed at any point, the same build resumes."""


def build_flags(build: argparse.ArgumentParser) -> None:
    _what_stands_in_it(build)
    _how_it_is_searched(build)
    _how_it_is_made(build)


def _what_stands_in_it(build: argparse.ArgumentParser) -> None:
    """Corpus, passages and vectors."""
    build.add_argument("corpus", metavar="CORPUS", help="file or folder of articles")
    build.add_argument("out", metavar="OUT", type=Path, help="folder to write the index to")
    _skip_others(build)
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
    build.add_argument(
        "--language", type=_language, default="en", help="of the sentence splitter: a code such as en, de, zh"
    )


def _skip_others(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--skip-others", action="store_true",
        help="of a folder, pass over tables without columns title and text (default: refuse them)",
    )  # fmt: skip


def _language(text: str) -> str:
    # The splitter takes any word, and splits by English rules where it does not know it.
    if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no code of a language, such as en, de, zh")
    return text


def _how_it_is_searched(build: argparse.ArgumentParser) -> None:
    """The kind of index, and what it is set by."""
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


def _how_it_is_made(build: argparse.ArgumentParser) -> None:
    """What changes the work and not the index."""
    build.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    build.add_argument(
        "--workers", choices=["1", "ray"], default="1",
        help="who encodes: 1, this process (default); ray, the nodes of a Ray cluster (needs ray)",
    )  # fmt: skip
    build.add_argument(
        "--ray-address", metavar="ADDR", help="auto or host:port of a running one (default: start one here)"
    )
    build.add_argument(
        "--limit", type=count_of("articles"), metavar="N", help="the first N articles only, for a trial"
    )
    build.add_argument("--online", action="store_true", help="allow to download the encoder")
    build.add_argument("--dry-run", action="store_true", help="say what it would take, write nothing")


def search_flags(search: argparse.ArgumentParser) -> None:
    """Flags of ``search``."""
    search.add_argument("index", metavar="INDEX")
    search.add_argument("text", metavar="TEXT")
    search.add_argument("-k", type=int, default=10, help="how many (default: 10)")
    search.add_argument("--exact", action="store_true", help="by every stored vector, not the FAISS index")
    search.add_argument(
        "--retriever", metavar="NAME", help="a dense retriever of the index, or bm25 (default: the first)"
    )  # fmt: skip
    search.add_argument("--encoder", help="where the index's encoder lies now (same weights)")
    search.add_argument("--json", action="store_true", help="print JSON")


def measure_flags(measure: argparse.ArgumentParser) -> None:
    """Flags of ``measure``."""
    measure.add_argument("index", metavar="INDEX")
    measure.add_argument(
        "--questions", type=Path, help="with answers: MAP@3 too (default: halves of passages)"
    )
    measure.add_argument(
        "--kinds", help="with commas between them (default: the index's own and all smaller)"
    )
    measure.add_argument("--recall", type=float, default=0.98, help="what kinds are set for (default: 0.98)")
    measure.add_argument("-k", type=int, default=10, help="passages a query (default: 10)")
    measure.add_argument(
        "--limit", type=count_of("questions"), metavar="N", help="ask the first N questions only"
    )
    measure.add_argument("--encoder", help="where the index's encoder lies now (same weights)")
    measure.add_argument(
        "--folder", type=Path, help="where kinds are made and removed again (default: the temporary folder)"
    )
    measure.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as JSON too")


def fit_flags(fit: argparse.ArgumentParser) -> None:
    """Flags of ``fit``."""
    fit.add_argument("index", metavar="INDEX")
    fit.add_argument("--questions", type=Path, required=True, help="the labelled questions")
    fit.add_argument(
        "--gold", metavar="COLUMN", required=True, help="their column with the passage that answers"
    )  # fmt: skip
    fit.add_argument(
        "--limit", type=count_of("questions"), metavar="N", help="fit by the first N questions only"
    )
    fit.add_argument("--encoder", action="append", metavar="FOLDER", help=ENCODER_HELP)
    fit.add_argument("--json", action="store_true", help="print JSON")


def check_flags(check: argparse.ArgumentParser) -> None:
    """Flags of ``check``."""
    checked = check.add_mutually_exclusive_group(required=True)
    checked.add_argument("index", metavar="INDEX", nargs="?", help="manifest, checksums, row counts, encoder")
    checked.add_argument("--corpus", metavar="CORPUS", help="numbers and formulae lost, duplicates, outliers")
    check.add_argument("--encoder", action="append", metavar="FOLDER", help=ENCODER_HELP)
    check.add_argument("--every", type=int, default=1, metavar="N", help="of a corpus, every Nth page alone")
    check.add_argument("--language", type=_language, default="en", help="of a corpus (default: en)")
    _skip_others(check)
    check.add_argument("--json", type=Path, metavar="FILE", help="of a corpus, write what was found as JSON")
