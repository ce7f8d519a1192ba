"""README and docs: every command is one that the programs take, every link is there, the examples run."""

import argparse
import re
import shlex

import pytest
import yaml
from conftest import ROOT
from question_tables import first

from inference import __main__ as inference_program
from kaggle_rag.config import Solution
from kaggle_rag.data.submission import read_submission
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.runtime.settings import validated
from kaggle_rag.sample import TEST, TRAIN
from training import __main__ as training_program
from training.rankers.settings import COMMANDS
from wiki_index import __main__ as wiki_index_program

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = {"wiki_index": wiki_index_program, "inference": inference_program, "training": training_program}
PARSERS = {name: program.PROGRAM.parser for name, program in PROGRAMS.items()}
MAINS = {name: program.main for name, program in PROGRAMS.items()}
# Tables that scripts printed, and a log of days gone by.
HISTORY = {"results.md", "log.md", "CHANGELOG.md"}


_COMMAND = re.compile(r"^[ !$]*(?:\S+=\S+ )?(?:\S*/)?python -m (wiki_index|inference|training) (.*)")


def blocks(page, kind):
    """The blocks of a kind, in order; every fence is paired, so that none is taken for the next one's."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    return [block for own, block in found if own == kind]


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


COUNT = 20


@pytest.fixture(scope="module")
def place(sample_index, tmp_path_factory):
    """What the README's lines name: an index, train and test questions."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "index").symlink_to(sample_index)
    for path in (TEST, TRAIN):
        first(path, COUNT, folder / path.name)
    return folder


def run(program, *words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [program, *words])
        assert run_program(MAINS[program]) == 0


def test_the_lines_on_the_kaggle_files_lead_to_a_score(place, monkeypatch, capsys):
    page = (ROOT / "README.md").read_text(encoding="utf-8").partition("## On the Kaggle files")[2]
    block = page.split("```")[1]
    (place / "solution.yaml").write_text("questions: test.csv\nindex: index/\nout: submission.csv\n")
    monkeypatch.chdir(place)
    for line in commands_in(block):
        run(line.values[0], *line.values[1])
    assert len(list(commands_in(block))) == 5 and "MAP@3" in capsys.readouterr().out
    assert len(read_submission(place / "submission.csv")) == COUNT


def test_the_example_from_python_runs(place, monkeypatch, capsys):
    (example,) = blocks(ROOT / "README.md", "python")
    monkeypatch.chdir(place)
    made = {}
    exec(example, made)
    assert made["probabilities"].shape == (COUNT, 4) and made["probabilities"].dtype == "float32"
    assert capsys.readouterr().out
