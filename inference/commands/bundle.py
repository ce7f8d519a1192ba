"""``python -m inference bundle``: its flags, and from them a bundle, or what it would hold."""

from __future__ import annotations

import argparse
from pathlib import Path

from inference.arguments import solution_flags, solution_of
from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.report import show

EXAMPLES = """\
examples:
  python -m inference bundle --config solution.yaml --image freeze.txt --owner me --slug science-exam \\
      --competition kaggle-llm-science-exam --out bundle/
  python -m inference bundle --config solution.yaml --image freeze.txt --owner me --slug science-exam \\
      --out bundle/ --dry-run

FREEZE is what `pip freeze` prints in a notebook of the image. docs/notebook.md tells what a bundle holds."""


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    solution_flags(parser, files=False)
    parser.add_argument("--image", type=Path, metavar="FREEZE", help="pip freeze of the notebook's image")
    parser.add_argument("--python", metavar="X.Y", help="Python of the image, if the freeze does not tell")
    parser.add_argument("--owner", required=True, help="your name in Kaggle's addresses")
    parser.add_argument("--slug", required=True, help="name of the dataset in its address, e.g. science-exam")
    parser.add_argument("--title", default="", help="title of the dataset (default: the slug in words)")
    parser.add_argument("--competition", default="", metavar="SLUG", help="its name in addresses")
    # As a setting, out is a submission.
    parser.add_argument(
        "--out", dest="bundle", type=Path, required=True, metavar="FOLDER", help="the folder to write"
    )
    parser.add_argument(
        "--wheels", choices=("download", "none"), default="download",
        help="download what the image lacks, or bundle no wheels",
    )  # fmt: skip
    parser.add_argument(
        "--dataset-size", metavar="SIZE", default="200GB",
        help="what one dataset may weigh; the rest goes into further ones (default: 200GB, Kaggle's limit)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="list what it would hold; write nothing")
    parser.add_argument("--push", action="store_true", help="upload it with Kaggle's client")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from inference.notebook.bundle import Wanted, bundle
    from inference.notebook.metadata import Names

    solution, faults = solution_of(arguments)
    names = Names(arguments.owner, arguments.slug, arguments.title, arguments.competition)
    wanted = Wanted(
        names, arguments.bundle, arguments.image, arguments.python, wheels=arguments.wheels == "download",
        dry_run=arguments.dry_run, push=arguments.push, dataset=_dataset(arguments.dataset_size),
    )  # fmt: skip
    show(bundle(solution, wanted, faults), as_json=arguments.json)
    return 0


def _dataset(text: str) -> int:
    from kaggle_rag.runtime.limits import parse_size

    size = parse_size(text, "--dataset-size")
    if not size:
        raise ConfigError("nothing fits into it", where="--dataset-size", expected="a size such as 200GB")
    return size
