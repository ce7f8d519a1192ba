"""The notebook of a bundle: it finds its inputs, installs the wheels, answers, and shows what came out.

It is written here as JSON (nbformat 4.5, https://nbformat.readthedocs.io/en/latest/format_description.html):
that takes less code than a library would.
"""

from __future__ import annotations

from typing import Any

from inference.notebook.metadata import Names
from inference.notebook.split import MARK

_ABOUT = """\
# {title}

Answers the questions of the competition without internet, from the dataset `{id}`. Written by
`python -m inference bundle`."""

_FIND = '''\
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

INPUT = Path(os.environ.get("KAGGLE_INPUT", "/kaggle/input"))
WORKING = Path(os.environ.get("KAGGLE_WORKING", "/kaggle/working"))
BUNDLE, COMPETITION = {bundle!r}, {competition!r}


def below(folder, name, depth):
    """Files and folders of this name, the least deep first; mounts differ in how deep they put them."""
    return [path for stars in range(depth) for path in sorted(folder.glob("*/" * stars + name))]


def is_ours(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))["id"] == BUNDLE
    except (ValueError, KeyError, TypeError):
        return False


class Killed(RuntimeError):
    """A program was ended from outside: as a rule, for want of memory."""


def run(*command, **variables):
    """Run a program, and show what it prints as it prints it."""
    environment = {{**os.environ, **variables}}
    options = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    with subprocess.Popen([*map(str, command)], cwd=WORKING, env=environment, **options) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
    if process.returncode:
        name = " ".join(map(str, command[1:4]))
        kind = Killed if process.returncode < 0 else RuntimeError
        raise kind(f"{{name}} failed with exit code {{process.returncode}}: see above")


bundles = [path.parent for path in below(INPUT, "bundle.json", 5) if is_ours(path)]
if not bundles:
    raise FileNotFoundError(f"no bundle {{BUNDLE}} under {{INPUT}}: add the dataset {{BUNDLE}} as an input")
bundle = bundles[0]
listed = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
mounts = [bundle]
{join}for name, seal in listed["files"].items():
    if not (bundle / name).is_file() or (bundle / name).stat().st_size != seal["bytes"]:
        raise FileNotFoundError(f"{{bundle / name}} is missing or incomplete: upload the dataset again")
print("bundle:", bundle)'''

_JOIN = """\
# What one dataset cannot hold lies in others: links make one folder of all, without a second copy.
parts = {{path.parent: json.loads(path.read_text(encoding="utf-8"))["part"]
         for path in below(INPUT, "{mark}", 5) if is_ours(path)}}
for number, dataset in enumerate(listed["datasets"][1:], 2):
    places = [folder for folder, part in parts.items() if part == number]
    if not places:
        raise FileNotFoundError(f"no dataset {{dataset}} under {{INPUT}}: add it as an input")
    mounts.append(places[0])
bundle = Path(tempfile.mkdtemp())
for name, seal in listed["files"].items():
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).symlink_to(mounts[seal.get("dataset", 1) - 1] / name)
"""

_INSTALL = """\
if listed["wheels"]:
    wheels = ["--no-index", "--no-deps", "--find-links", bundle / "wheels"]
    run(sys.executable, "-m", "pip", "install", *wheels, *listed["wheels"])"""

_ANSWER = """\
places = below(INPUT, COMPETITION, 4) if COMPETITION else [INPUT]
names = ("test.csv", "test.parquet", "test.jsonl")
found = [path for place in places for name in names for path in below(place, name, 4)]
# The kit has sample questions of its own.
tests = [path for path in found if not {{*mounts}} & {{*path.parents}}]
if not tests:
    raise FileNotFoundError(f"no test.csv under {{INPUT}}: add the competition {{COMPETITION}} as an input")
print("questions:", tests[0])
out = WORKING / "submission.csv"
flags = ["--config", bundle / "solution.yaml", "--questions", tests[0], "--out", out]
try:
    run(
        sys.executable, "-m", "inference", "submit", *flags, {flags},
        PYTHONPATH=str(bundle / "kit"), HF_HUB_OFFLINE="1",
    )
except Killed as failure:
    # While it is scored, what was answered until then is worth more than an error; before that, less.
    if not (os.environ.get("KAGGLE_IS_COMPETITION_RERUN") and out.is_file()):
        raise
    print(f"FAILED: {{failure}}. What was answered until then is handed in.")"""

_SHOW = """\
with (WORKING / "submission.csv").open(newline="", encoding="utf-8") as file:
    for row, _ in zip(csv.reader(file), range(6)):
        print(*row, sep=", ")"""


def notebook(names: Names, flags: list[str], datasets: int = 1) -> dict[str, Any]:
    """The notebook as JSON.

    Parameters
    ----------
    flags : further ones of ``python -m inference submit``.
    datasets : how many the bundle lies in.

    Notes
    -----
    ``KAGGLE_INPUT`` and ``KAGGLE_WORKING`` in its environment replace ``/kaggle/input`` and
    ``/kaggle/working``, so that it can be tried elsewhere.
    """
    join = _JOIN.format(mark=MARK) if datasets > 1 else ""
    sources = {
        "find": _FIND.format(bundle=names.id, competition=names.competition, join=join),
        "install": _INSTALL,
        "answer": _ANSWER.format(flags=", ".join(map(repr, flags))),
        "show": _SHOW,
    }
    about = {
        "cell_type": "markdown", "id": "about", "metadata": {},
        "source": _ABOUT.format(title=names.title, id=names.id),
    }  # fmt: skip
    code: list[dict[str, Any]] = [
        {
            "cell_type": "code", "id": key, "metadata": {}, "source": source, "execution_count": None,
            "outputs": [],
        }
        for key, source in sources.items()
    ]  # fmt: skip
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": [about, *code],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
