"""The first steps of a cross-validation: near-duplicates, folds, and the leak report."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.duplicates import Pair, embedding_texts, find_duplicates
from kaggle_rag.evaluation.fold_table import Folds, articles_of, read_folds, write_folds
from kaggle_rag.evaluation.folds import crossing, group, group_folds
from kaggle_rag.evaluation.leaks import LeakReport, leak_report
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.files import sha256, write_json
from kaggle_rag.runtime.words import counted
from training.crossval.experiment import Experiment
from training.crossval.report import LeakCounts

PAIRS, LEAKS = "duplicates.json", "leaks.json"


class FoldSplit(NamedTuple):
    """The fold of each question ``(n,)``, the near-duplicates, and what could not be kept together."""

    folds: Folds
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]


def make_parts(experiment: Experiment) -> FoldSplit:
    """Assign groups of questions to folds, the same ones for the same experiment."""
    questions = experiment.questions
    pairs = find_duplicates(questions, _vectors(experiment, questions))
    most = max(1, len(questions) // experiment.settings.folds)
    groups = group(len(questions), pairs, articles_of(experiment.contexts), most=most)
    folds = group_folds(groups.labels, questions.answers, experiment.settings.folds, experiment.settings.seed)
    return FoldSplit(folds, tuple(pairs), groups.notes)


def keep_parts(experiment: Experiment, parts: FoldSplit | None = None) -> FoldSplit:
    """The folds in the experiment's folder, made and written if missing."""
    if not experiment.paths.folds.is_file():
        parts = parts or make_parts(experiment)
        duplicates = {"notes": parts.notes, "pairs": [pair._asdict() for pair in parts.pairs]}
        write_json(experiment.folder / PAIRS, duplicates)
        # Written last: if the folds exist, so does the rest.
        write_folds(experiment.paths.folds, experiment.questions, parts.folds)
    stored = json.loads((experiment.folder / PAIRS).read_text(encoding="utf-8"))
    folds = read_folds(experiment.paths.folds, experiment.questions)
    return FoldSplit(folds, tuple(Pair(**pair) for pair in stored["pairs"]), tuple(stored["notes"]))


def count_leaks(experiment: Experiment, parts: FoldSplit) -> LeakCounts:
    """Count near-duplicates between folds and rows of test files that repeat a question.

    A file lists every leak; it is reused until the test files change.
    """
    checksums = {str(path): sha256(path) for path in experiment.tests}
    path = experiment.folder / LEAKS
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    # Without test files, an earlier report with some is still valid.
    if stored.get("made of") != checksums and not (stored and not checksums):
        report = _report(experiment)
        stored = {
            "made of": checksums,
            "near-duplicates": len(parts.pairs),
            "contradicting": sum(pair.contradicts for pair in parts.pairs),
            "between folds": len(crossing(parts.pairs, parts.folds)),
            "notes": list(parts.notes),
            "text": report.text(examples=1) if report else "",
            **(report.as_json() if report else {"files": {}, "leaks": []}),
        }
        write_json(path, stored)
    return LeakCounts(
        stored["near-duplicates"], stored["contradicting"], stored["between folds"],
        tuple(stored["notes"]), stored["text"], stored["files"],
    )  # fmt: skip


def _report(experiment: Experiment) -> LeakReport | None:
    if not experiment.tests:
        return None
    others = {str(path): Questions.read(path) for path in experiment.tests}
    train_vectors = _vectors(experiment, experiment.questions)
    if train_vectors is None:
        return leak_report(experiment.questions, others)
    vectors = {name: _vectors(experiment, other) for name, other in others.items()}
    return leak_report(experiment.questions, others, train_vectors=train_vectors, vectors=vectors)


def _vectors(experiment: Experiment, questions: Questions) -> Any:
    """Embeddings by the default encoder, which the threshold of near-duplicates was chosen for."""
    if experiment.settings.alike == "words":
        return None
    from kaggle_rag.index.encoder import Encoder

    say(f"embedding {counted(len(questions), 'question')}")
    return Encoder(DEFAULT_ENCODER, device=experiment.solution.device).encode_passages(
        embedding_texts(questions)
    )
