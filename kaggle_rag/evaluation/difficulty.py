"""Which questions are hard, and which labels are likely wrong: a list that training can drop."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kaggle_rag.data.probabilities import ranking
from kaggle_rag.data.questions import Questions, id_text, require_answers
from kaggle_rag.data.tables import read_rows
from kaggle_rag.evaluation.duplicates import REASONS as WHY_ALIKE
from kaggle_rag.evaluation.duplicates import Pair
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, InputError
from kaggle_rag.runtime.files import whole_file

Floats = npt.NDArray[np.float64]
# Probability floor: a model that is certain and wrong loses 13.3 bits and not infinitely many.
_FLOOR = 1e-4
_COLUMNS = ("id", "question", "reason", "score", "detail")

# Reasons to suspect a question, and what the score of each reason means.
REASONS = {
    "label": "likely label error; the score is its normalised margin, 0 the worst",
    "contradiction": "another row has the same question with another answer; the score is their similarity",
    "duplicate": "an earlier row asks the same question; the score is their similarity",
    "hard": "the input makes the right option less likely; the score is its V-information in bits",
}


class Suspect(NamedTuple):
    """A suspect question; ``reason`` is a key of ``REASONS``."""

    row: int
    reason: str
    score: float
    detail: str


def pointwise_information(
    with_input: npt.ArrayLike, without_input: npt.ArrayLike, answers: npt.NDArray[np.int64]
) -> Floats:
    """Pointwise V-information of each question in bits, ``(n,)`` float64.

    ``PVI(x -> y) = -log2 g0[y] + log2 g[x][y]``, where ``g`` was trained with the input and ``g0``
    without it. High is easy; below zero the input misleads the model: hard, or labelled wrongly. Its
    mean estimates the V-usable information of the data set. Source: Ethayarajh, Choi & Swayamdipta
    2022, definition 4, https://proceedings.mlr.press/v162/ethayarajh22a.html.

    Parameters
    ----------
    with_input, without_input : ``(n, k)`` held-out probabilities; the information is that of what the
        second model may not read (the prompt, or the contexts).
    answers : ``(n,)`` columns of the right options.

    Raises
    ------
    InputError : tables of different shapes, a question without an answer.
    """
    seen, blind = (_right(table, answers) for table in (with_input, without_input))
    return np.asarray(np.log2(seen) - np.log2(blind), dtype=np.float64)


def self_confidence(probabilities: npt.ArrayLike, answers: npt.NDArray[np.int64]) -> Floats:
    """Probability of the given label, ``(n,)``. Source: Northcutt et al. 2021, section 3."""
    return _right(probabilities, answers, floor=0.0)


def normalised_margin(
    probabilities: npt.ArrayLike, answers: npt.NDArray[np.int64], present: npt.NDArray[np.bool_]
) -> Floats:
    """``(p[label] - max p[other] + 1) / 2``, ``(n,)`` from 0 (surely wrong) to 1 (surely right).

    Source: Northcutt et al. 2021, https://doi.org/10.1613/jair.1.12125, section 3.2, on cleanlab's scale.
    """
    own, best = self_confidence(probabilities, answers), _best_other(probabilities, answers, present)
    return np.asarray((own - best + 1) / 2, dtype=np.float64)


def label_errors(
    probabilities: npt.ArrayLike, answers: npt.NDArray[np.int64], present: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Rows whose label is likely wrong, by confident learning, the worst margin first.

    Northcutt et al. 2021 consider a class confident in a row if its probability reaches the mean that
    it has in rows labelled with it, and call a row an error if another class is. Here the classes
    are the options of each question: "C" means something else in every row, so a threshold per letter
    would only measure the model's bias for letters, as `kaggle_rag.evaluation.slices.position_bias` does.
    Options of questions with equally many options are exchangeable, and share one threshold: the mean
    self-confidence of those questions. A row is an error if its likeliest option is not its label
    and reaches the threshold.

    Parameters
    ----------
    probabilities : ``(n, k)`` out-of-fold; in-sample ones have memorised the wrong labels.
    answers : ``(n,)`` the labels.
    present : ``(n, k)`` bool.

    Raises
    ------
    InputError : a table of a different shape, a question without an answer.
    """
    own, best = self_confidence(probabilities, answers), _best_other(probabilities, answers, present)
    _, kind = np.unique(present.sum(axis=1), return_inverse=True)
    thresholds = np.bincount(kind, weights=own) / np.bincount(kind)
    wrong = np.flatnonzero((best > own) & (best >= thresholds[kind]))
    return np.asarray(wrong[np.argsort((own - best)[wrong], kind="stable")], dtype=np.int64)


def _right(table: npt.ArrayLike, answers: npt.NDArray[np.int64], floor: float = _FLOOR) -> Floats:
    table = np.asarray(table, dtype=np.float64)
    if table.ndim != 2 or answers.shape != table.shape[:1] or not np.isfinite(table).all():
        raise InputError(
            f"probabilities of shape {table.shape} for {len(answers):,} answers, or not all finite",
            expected="one row per question, one column per option",
        )
    require_answers(answers)
    return np.asarray(np.maximum(table[np.arange(len(answers)), answers], floor), dtype=np.float64)


def _best_other(
    table: npt.ArrayLike, answers: npt.NDArray[np.int64], present: npt.NDArray[np.bool_]
) -> Floats:
    table = np.asarray(table, dtype=np.float64)
    if table.shape != present.shape:
        raise InputError(f"probabilities of shape {table.shape}", expected=str(present.shape))
    others = np.where(present, table, -np.inf)
    others[np.arange(len(answers)), answers] = -np.inf
    return np.asarray(others.max(axis=1), dtype=np.float64)


def diagnose(
    questions: Questions,
    probabilities: npt.ArrayLike | None = None,
    without_input: npt.ArrayLike | None = None,
    pairs: Iterable[Pair] = (),
) -> list[Suspect]:
    """All suspect questions, reason by reason, the worst first.

    Parameters
    ----------
    probabilities : ``(n, k)`` out-of-fold, for label errors.
    without_input : ``(n, k)`` of a model without the input, for hard questions.
    pairs : of `kaggle_rag.evaluation.duplicates.find_duplicates`.

    Raises
    ------
    InputError : as `pointwise_information`.
    """
    suspects = _of_pairs(questions, pairs)
    if probabilities is not None:
        answers, present = questions.answers, questions.present
        margins = normalised_margin(probabilities, answers, present)
        likely = ranking(probabilities, present)[:, 0]
        letters = questions.letters
        suspects += [
            Suspect(
                int(row), "label", float(margins[row]),
                f"labelled {letters[answers[row]]}, the model says {letters[likely[row]]}",
            )
            for row in label_errors(probabilities, answers, present)
        ]  # fmt: skip
        if without_input is not None:
            bits = pointwise_information(probabilities, without_input, answers)
            hard = np.flatnonzero(bits < 0)
            suspects += [
                Suspect(int(row), "hard", float(bits[row]), f"{bits[row]:.2f} bits")
                for row in hard[np.argsort(bits[hard], kind="stable")]
            ]
    return sorted(suspects, key=lambda suspect: list(REASONS).index(suspect.reason))


def _of_pairs(questions: Questions, pairs: Iterable[Pair]) -> list[Suspect]:
    suspects, repeated = [], set()
    for pair in sorted(pairs, key=lambda pair: -pair.similarity):
        names = id_text(questions.ids[pair.left]), id_text(questions.ids[pair.right])
        if pair.contradicts:
            # It is unknown which of the two is right, so both are listed.
            for row, other in ((pair.left, names[1]), (pair.right, names[0])):
                detail = f"the answer differs from that of {other}"
                suspects.append(Suspect(row, "contradiction", pair.similarity, detail))
        elif pair.right not in repeated:
            repeated.add(pair.right)
            detail = f"{WHY_ALIKE[pair.reason]}: {names[0]}"
            suspects.append(Suspect(pair.right, "duplicate", pair.similarity, detail))
    return suspects


def write_suspects(path: str | Path, questions: Questions, suspects: Sequence[Suspect]) -> None:
    """Write ``id, question, reason, score, detail`` rows as a complete ``.csv`` or ``.parquet`` file.

    ``question`` is the hash of prompt and options, as in a contexts file.

    Raises
    ------
    ConfigError : any other ending.
    """
    hashes = questions.fingerprints()
    rows = [
        (id_text(questions.ids[s.row]), hashes[s.row], s.reason, round(s.score, 6), s.detail)
        for s in suspects
    ]
    ending = Path(path).suffix
    if ending not in (".csv", ".parquet"):
        raise ConfigError(f"cannot write a list as {ending!r}", where=path, expected=".csv or .parquet")
    with whole_file(path) as aside:
        if ending == ".csv":
            with aside.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([_COLUMNS, *rows])
        else:
            types = [pa.string(), pa.string(), pa.string(), pa.float64(), pa.string()]
            columns = list(zip(*rows)) or [()] * len(_COLUMNS)
            pq.write_table(pa.table({n: pa.array(c, t) for n, c, t in zip(_COLUMNS, columns, types)}), aside)


def read_suspects(path: str | Path, questions: Questions) -> list[Suspect]:
    """Read a list written by `write_suspects`, or written or shortened by hand.

    Only ``id`` and ``reason`` are required; ``question``, if there, must match that of the id.

    Raises
    ------
    InputError : a column is missing, an unknown reason, a score that is not a number.
    ArtifactError : an id that is not among the questions, or another question with that id.
    """
    row_of = {id_text(key): row for row, key in enumerate(questions.ids)}
    hashes = questions.fingerprints()
    suspects = []
    for number, cells in enumerate(read_rows(path), 1):
        where = f"{path}, row {number}"
        key, reason = id_text(cells.get("id")), cells.get("reason")
        if reason not in REASONS:
            raise InputError(
                "no reason is given" if reason is None else f"unknown reason {reason!r}", where=where,
                expected="one of " + ", ".join(REASONS), cure="pass the list of python -m training diagnose",
            )  # fmt: skip
        if key not in row_of or (cells.get("question") or hashes[row_of[key]]) != hashes[row_of[key]]:
            raise ArtifactError(
                f"no such question with the id {key!r}", where=where, expected="the list of these questions"
            )
        try:
            score = float(cells.get("score") or 0)
        except (TypeError, ValueError):
            raise InputError(f"the score {cells['score']!r} is not a number", where=where) from None
        suspects.append(Suspect(row_of[key], str(reason), score, str(cells.get("detail") or "")))
    return suspects


def sample_weights(
    rows: int,
    suspects: Iterable[Suspect],
    weight: float = 0.0,
    reasons: Sequence[str] = ("label", "contradiction"),
) -> Floats:
    """A weight for each question, ``(n,)``: 1, or ``weight`` if it is suspect for one of ``reasons``.

    ``weight = 0`` drops them. Hard questions and duplicates are not down-weighted unless named: hard
    ones teach most (and hold the label errors), and one of two duplicates is a good question.

    Raises
    ------
    ConfigError : a weight outside 0 to 1, an unknown reason.
    """
    if not 0 <= weight <= 1 or set(reasons) - set(REASONS):
        raise ConfigError(
            f"the weight {weight} for {', '.join(reasons)}",
            expected="a weight from 0 to 1, for " + ", ".join(REASONS),
        )
    weights = np.ones(rows)
    weights[[suspect.row for suspect in suspects if suspect.reason in reasons]] = weight
    return weights
