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
from training.crossval.experiment import Experiment

PAIRS, LEAKS = "duplicates.json", "leaks.json"


class Parts(NamedTuple):
    """The fold of each question ``(n,)``, its near-duplicates, and what could not be kept together."""

    folds: Folds
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]


def make_parts(study: Experiment) -> Parts:
    """Folds of groups; the same study gives the same ones."""
    questions = study.questions
    pairs = find_duplicates(questions, _vectors(study, questions))
    most = max(1, len(questions) // study.wish.folds)
    groups = group(len(questions), pairs, articles_of(study.contexts), most=most)
    folds = group_folds(groups.labels, questions.answers, study.wish.folds, study.wish.seed)
    return Parts(folds, tuple(pairs), groups.notes)


def keep_parts(study: Experiment, parts: Parts | None = None) -> Parts:
    """The folds of the study's folder, made and written where they are not there yet."""
    if not study.place.folds.is_file():
        parts = parts or make_parts(study)
        found = {"notes": parts.notes, "pairs": [pair._asdict() for pair in parts.pairs]}
        write_json(study.folder / PAIRS, found)
        # Written last: where the folds are, the rest is too.
        write_folds(study.place.folds, study.questions, parts.folds)
    kept = json.loads((study.folder / PAIRS).read_text(encoding="utf-8"))
    folds = read_folds(study.place.folds, study.questions)
    return Parts(folds, tuple(Pair(**pair) for pair in kept["pairs"]), tuple(kept["notes"]))


def keep_leaks(study: Experiment, parts: Parts) -> dict[str, Any]:
    """What crosses folds, and what of the test files repeats a question; kept until the files change.

    The file lists every leak; what comes back only counts them.
    """
    made_of = {str(path): sha256(path) for path in study.tests}
    path = study.folder / LEAKS
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    # Without files to hold against, an earlier report that has some still holds.
    if kept.get("made of") != made_of and not (kept and not made_of):
        report = _report(study)
        kept = {
            "made of": made_of,
            "near-duplicates": len(parts.pairs),
            "contradicting": sum(pair.contradicts for pair in parts.pairs),
            "between folds": len(crossing(parts.pairs, parts.folds)),
            "notes": list(parts.notes),
            "text": report.text(examples=1) if report else "",
            **(report.as_json() if report else {"files": {}, "leaks": []}),
        }
        write_json(path, kept)
    return {key: value for key, value in kept.items() if key not in ("made of", "leaks")}


def _report(study: Experiment) -> LeakReport | None:
    if not study.tests:
        return None
    others = {str(path): Questions.read(path) for path in study.tests}
    ours = _vectors(study, study.questions)
    if ours is None:
        return leak_report(study.questions, others)
    vectors = {name: _vectors(study, other) for name, other in others.items()}
    return leak_report(study.questions, others, train_vectors=ours, vectors=vectors)


def _vectors(study: Experiment, questions: Questions) -> Any:
    """Embeddings by the default encoder, which the threshold of near-duplicates was chosen for."""
    if study.wish.alike == "words":
        return None
    from kaggle_rag.index.encoder import Encoder

    say(f"embedding {len(questions):,} questions")
    return Encoder(DEFAULT_ENCODER, device=study.solution.device).encode_passages(embedding_texts(questions))
