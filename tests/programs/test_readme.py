"""README and docs: every command is one that the programs take, every link is there, the examples run."""

import argparse
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from inference import __main__ as inference_program
from kaggle_rag.config import Solution
from kaggle_rag.data.submission import read_submission
from kaggle_rag.runtime.settings import validated
from kaggle_rag.sample import ARTICLES, TEST, TRAIN
from training import __main__ as training_program
from training.rankers.settings import COMMANDS
from wiki_index import __main__ as wiki_index_program

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PARSERS = {
    "wiki_index": wiki_index_program.PROGRAM.parser,
    "inference": inference_program.PROGRAM.parser,
    "training": training_program.PROGRAM.parser,
}
# Tables that scripts printed, and a log of days gone by.
HISTORY = {"results.md", "log.md", "CHANGELOG.md"}


_COMMAND = re.compile(r"^[ !$]*(?:\S+=\S+ )?(?:\S*/)?python -m (wiki_index|inference|training) (.*)")


def blocks(page, kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def commands_in(text):
    """Every line ``python -m PROGRAM …``, with its continuations and without its comment."""
    for line in text.replace("\\\n", " ").splitlines():
        if found := _COMMAND.search(line):
            yield pytest.param(found[1], shlex.split(found[2], comments=True), id=found[0].strip()[:80])


def commands():
    for page in PAGES:
        for block in blocks(page, "") if page.name not in HISTORY else ():
            yield from commands_in(block)


def examples():
    """Those of ``--help``, of the programs and of their commands."""
    for make in PARSERS.values():
        parser = make()
        inner = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
        for each in (parser, *inner.choices.values()):
            yield from commands_in(each.epilog or "")


@pytest.mark.parametrize(("program", "words"), [*commands(), *examples()])
def test_every_command_is_one_that_the_program_takes(program, words):
    # argparse leaves by SystemExit where a flag or a command is none.
    assert PARSERS[program]().parse_args(words).command in words


def test_there_are_commands_in_every_page():
    assert len(list(commands())) >= 40 and len(list(examples())) >= 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_is_there(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in HISTORY], ids=str)
def test_every_file_of_this_project_that_is_named_is_there(page):
    told = page.read_text(encoding="utf-8").partition("## Where planned features go")[0]
    for name in re.findall(r"`((?:kaggle_rag|training|wiki_index|inference|benchmarks)/[\w/.]+)`", told):
        assert (ROOT / name).exists(), name


def test_every_setting_of_an_example_is_one():
    found = 0
    for page in PAGES:
        for block in blocks(page, "yaml"):
            solution = validated(Solution, yaml.safe_load(block), page.name)
            for ranker in solution.rankers:
                if ranker.train:
                    given = {key: value for key, value in ranker.train.items() if key != "command"}
                    model = COMMANDS[ranker.train["command"]]
                    validated(model, {**given, "questions": "q", "out": "o"}, "train")
            found += 1
    assert found >= 3


@pytest.fixture(scope="module")
def place(encoder, tmp_path_factory):
    """What the README's lines name: an index, train and test questions."""
    from kaggle_rag.text.units import Unit
    from wiki_index.build import build
    from wiki_index.corpus import Corpus
    from wiki_index.plan import Plan

    folder = tmp_path_factory.mktemp("readme")
    build(Plan(Corpus.open(ARTICLES), folder / "index", {"minilm": encoder}, Unit("sentence")))
    shutil.copy(TEST, folder / "test.csv")
    shutil.copy(TRAIN, folder / "train.csv")
    return folder


def run(place, *words):
    done = subprocess.run(
        [sys.executable, *words], cwd=place, capture_output=True, text=True, timeout=600,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "HOME": str(place)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_lines_on_the_kaggle_files_lead_to_a_score(place):
    page = (ROOT / "README.md").read_text(encoding="utf-8").partition("## On the Kaggle files")[2]
    lines = page.split("```")[1].strip().splitlines()
    (place / "solution.yaml").write_text("questions: test.csv\nindex: index/\nout: submission.csv\n")
    for line in lines:
        out = run(place, *shlex.split(line, comments=True)[1:])
    assert len(lines) == 5 and "MAP@3" in out
    assert len(read_submission(place / "submission.csv")) == 76


def test_the_example_from_python_runs(place):
    (example,) = blocks(ROOT / "README.md", "python")
    out = run(place, "-c", example + "\nprint(probabilities.shape, probabilities.dtype)")
    assert out.splitlines()[-1] == "(76, 4) float32" and len(out.splitlines()) >= 2
