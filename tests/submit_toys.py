"""``submit`` in this process, with the rankers of a test."""

import json
import sys

from inference import __main__ as program
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.questions import Questions
from kaggle_rag.data.submission import validate
from kaggle_rag.runtime.errors import run_program

# A tiny language model as a ranker.
OPTIONS = {"form": "options", "max_tokens": 48, "device": "cpu", "batch_tokens": 64}


def trained(folder, **options):
    """The settings of a ranker in a folder."""
    return {"kind": "trained", "options": {"folder": str(folder), **options}}


class Submit:
    """Called with rankers and flags it gives the exit code and what was printed on stderr.

    ``out`` is the submission, ``folder`` that of the predictions, ``printed`` what the last call printed.
    """

    def __init__(self, questions, folder, monkeypatch, capsys):
        self.questions, self.out = questions, folder / "s.csv"
        self.folder, self.printed = folder / "s.predictions", ""
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, rankers, *flags):
        command = ["submit", "--questions", self.questions, "--out", self.out, "--without-contexts"]
        command += ["--set", f"rankers={json.dumps(rankers)}", *flags]
        self._monkeypatch.setattr(sys, "argv", ["inference", *map(str, command)])
        code = run_program(program.main)
        printed = self._capsys.readouterr()
        self.printed = printed.out
        return code, printed.err

    def table(self, name):
        """What a ranker has answered."""
        return Predictions.read(self.folder / f"{name}.parquet").tables[name]

    def stages(self):
        """Name, questions and failure of each stage of the last run."""
        stages = json.loads((self.folder / "run.json").read_text())["stages"]
        return [(stage["name"], stage["questions"], stage["failure"]) for stage in stages]

    def valid(self):
        """The predictions of a submission that is whole."""
        read = Questions.read(self.questions)
        return validate(self.out, read.ids, read.options)
