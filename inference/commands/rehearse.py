"""``python -m inference rehearse``: its flags, and from them a rehearsal."""

from __future__ import annotations

import argparse
from pathlib import Path

from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.flags import count_of, seed_number
from kaggle_rag.runtime.limits import parse_duration, parse_size
from kaggle_rag.runtime.report import show

# A rehearsal was held, and found what would fail.
EXIT_WOULD_FAIL = 1
EXAMPLES = """\
examples:
  python -m inference rehearse bundle/ --questions test.csv
  python -m inference rehearse bundle/ --questions test.csv --quick --ram 13GB
  python -m inference rehearse bundle/ --questions test.csv --cases x1,x20 --questions-expected 4000

Exit code: 0 if the notebook would be scored, 1 if not, 2 if there was no rehearsal.
docs/notebook.md tells what is tried; --dry-run, what this machine can enforce."""


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder written by bundle")
    parser.add_argument("--questions", type=Path, metavar="FILE", help="the competition's visible test file")
    parser.add_argument("--cases", metavar="NAME,…", help="some of x1, odd, x5, x20 (default: all)")
    parser.add_argument("--quick", action="store_true", help="one case: odd")
    _environment_flags(parser)
    _limit_flags(parser)
    parser.add_argument("--seed", type=seed_number, default=0, help="of the hidden test sets (default: 0)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the files of the runs there")
    parser.add_argument(
        "--dry-run", action="store_true", help="list the cases and what is enforced; run none"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _environment_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--environment", choices=("image", "wheels", "this"),
        help="what the notebook has besides the bundle's wheels: the image's packages, installed by pip; "
        "nothing; or what is installed here (default: image with --image, else this)",
    )  # fmt: skip
    parser.add_argument("--image", type=Path, metavar="FREEZE", help="its pip freeze (default: the bundle's)")
    parser.add_argument("--python", metavar="X.Y", help="Python of the image, if the freeze does not tell")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="keep the image's packages there")


def _limit_flags(parser: argparse.ArgumentParser) -> None:
    for flag, size, what in (
        ("--ram", None, "memory (default: 30GB, or 29GB with GPUs)"),
        ("--gpu-memory", "15GB", "memory of one GPU (default: 15GB)"),
        ("--tmp", "5GB", "size of /tmp (default: 5GB)"),
        ("--working", "20GB", "size of /kaggle/working (default: 20GB)"),
        ("--storage", "100MB", "bytes a second of the inputs' disk, for the forecast (default: 100MB)"),
    ):
        parser.add_argument(flag, metavar="SIZE", default=size, help=what)
    parser.add_argument("--limit", metavar="TIME", default="9h", help="time allowed (default: 9h)")
    parser.add_argument(
        "--questions-expected", type=count_of("questions"), metavar="N",
        help="hidden questions, for the forecast (default: 20 times the visible ones)",
    )  # fmt: skip
    parser.add_argument(
        "--top", type=count_of("letters"), default=3, metavar="N",
        help="letters that the competition takes per question (default: 3)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Rehearse; print the report; return the exit code."""
    from inference.notebook.rehearsal.rehearse import Wanted, rehearse

    def size(name: str) -> int:
        flag = "--" + name.replace("_", "-")
        return int(_some(parse_size(getattr(arguments, name), flag), flag))

    wanted = Wanted(
        arguments.bundle, arguments.questions, arguments.environment, arguments.image, arguments.python,
        cases=None if arguments.cases is None else tuple(arguments.cases.split(",")), quick=arguments.quick,
        ram=size("ram") if arguments.ram else None, gpu=size("gpu_memory"), tmp=size("tmp"),
        working=size("working"), limit=_some(parse_duration(arguments.limit, "--limit"), "--limit"),
        expected=arguments.questions_expected, storage=size("storage"), top=arguments.top,
        seed=arguments.seed, keep=arguments.keep, images=arguments.images, dry_run=arguments.dry_run,
    )  # fmt: skip
    report = rehearse(wanted)
    show(report, as_json=arguments.json)
    return 0 if report.passed else EXIT_WOULD_FAIL


def _some(value: float, flag: str) -> float:
    if not value:
        raise ConfigError("nothing runs with none of it", where=flag, expected="more than 0")
    return value
