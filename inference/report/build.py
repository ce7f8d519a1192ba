"""Read a run and its questions, and write their report as one HTML file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from inference.outputs import check_out
from inference.report.compare import other_of
from inference.report.data import ReportData
from inference.report.measures import Answered, report_of
from inference.report.page import GENERATOR, page_of
from inference.report.runs import StoredRun
from kaggle_rag.config import Solution
from kaggle_rag.data.contexts import QuestionContexts, read_contexts
from kaggle_rag.data.questions import NO_ANSWER, Questions, id_text
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, InputError
from kaggle_rag.runtime.faults import Gathered
from kaggle_rag.runtime.files import sha256, whole_file
from kaggle_rag.runtime.words import counted

# The page names its maker in its first bytes.
_HEAD = 4096


def report(
    folder: Path, questions_file: Path, contexts_file: Path | None, out: Path, limit: int | None = None,
    compare: Path | None = None,
) -> ReportData:  # fmt: skip
    """Write the report of a run to ``out``; return what it shows.

    Parameters
    ----------
    folder : beside a submission (``NAME.predictions``), or of a cross-validation.
    questions_file : the questions, with their answers or without.
    contexts_file : what the rankers read; not needed for contexts that the run itself searched.
    limit : show only the first questions.
    compare : the folder of another run of the same questions.

    Raises
    ------
    KitError : every fault of the inputs, before anything is written.
    """
    faults = Gathered()
    with faults.check():
        _check_out(out, folder, questions_file, contexts_file)
    run = questions = other = None
    with faults.check():
        run = StoredRun.open(folder)
    with faults.check():
        other = StoredRun.open(compare) if compare else None
    with faults.check():
        questions = Questions.read(questions_file)
    faults.tell()
    assert run is not None and questions is not None
    answered, notes = _answered(run, other, questions, questions_file, contexts_file, limit)
    data = report_of(run, answered, notes)
    page = page_of(data)
    with whole_file(out) as aside:
        # A folder's name may hold bytes that are no text.
        aside.write_text(page, encoding="utf-8", errors="replace")
    return data


def _check_out(out: Path, folder: Path, questions: Path, contexts: Path | None) -> None:
    inputs = sorted(folder.iterdir()) if folder.is_dir() else []
    check_out(Solution(questions=questions, contexts_file=contexts, out=out), {".html"}, inputs)
    if not out.exists():
        return
    with out.open("rb") as file:
        if GENERATOR.encode() not in file.read(_HEAD):
            raise InputError(
                "a file that is not a report already exists", where=out, cure="choose another --out"
            )


def _answered(
    run: StoredRun, other: StoredRun | None, questions: Questions, questions_file: Path,
    contexts_file: Path | None, limit: int | None,
) -> tuple[Answered, list[str]]:  # fmt: skip
    """The run's questions, or the first of them, in its order; and what is left out."""
    rows = run.rows_in(questions, questions_file)
    count, total = min(limit or len(rows), len(rows)), len(questions)
    taken = questions.take(rows)
    # A test file has no answers, but the run may know those of its own file.
    answers = np.where(taken.answers == NO_ANSWER, run.answers, taken.answers)
    taken = dataclasses.replace(taken, answers=answers)
    mixes = {name: table[:count] for name, table in run.mixed(taken.present).items()}
    shown = taken.take(range(count))
    notes = []
    if count < len(rows):
        notes.append(f"only the first {count:,} of {counted(len(rows), 'question')} (--limit)")
    if len(rows) < total:
        notes.append(
            f"the run answers {len(rows):,} of the {counted(total, 'question')} of {questions_file.name}"
        )
    notes += [run.unsaid] if run.unsaid else []
    if seen := len(run.seen.intersection(map(id_text, shown.ids))):
        notes.append(f"a model of the run was trained on {seen:,} of these questions: the score is too high")
    notes += [f"{each.name} failed: {each.failure}" for each in run.stages if each.failure]
    contexts, note = _contexts(run, contexts_file, shown)
    tables = {name: table[:count] for name, table in run.tables.items()}
    beside = other_of(other, run, taken) if other else None
    if beside:
        beside = beside._replace(mix=beside.mix[:count])
    return Answered(shown, tables, mixes, contexts, beside), [*notes, *filter(None, [note])]


def _contexts(
    run: StoredRun, given: Path | None, questions: Questions
) -> tuple[list[QuestionContexts] | None, str]:
    """What the rankers read, and why it is not there.

    Raises
    ------
    ConfigError : a file is given to a run that read none.
    ArtifactError : the file is not the one that the run read.
    """
    if given is None:
        if run.searched:
            return read_contexts(run.searched, questions), ""
        return None, _absent(run.contexts)
    own = sha256(run.searched) if run.searched else run.contexts
    if isinstance(own, dict):
        raise ConfigError(
            "the run searched its contexts itself", where="--contexts-file", cure="leave the flag out"
        )
    if own is None:
        raise ConfigError(
            "the run was made without contexts", where="--contexts-file", cure="leave the flag out"
        )
    if own and sha256(given) != own:
        raise ArtifactError(
            "these are not the contexts that the rankers read", where=given,
            expected="the file that the run was made with",
            cure="leave the flag out: the run has its own" if run.searched else "pass that file",
        )  # fmt: skip
    return read_contexts(given, questions), ""


def _absent(contexts: Any) -> str:
    if contexts is None:
        return "the run does not name any contexts: no evidence is shown"
    if isinstance(contexts, dict):
        return "the search was not finished: no evidence is shown"
    return "no evidence is shown: --contexts-file was not given"
