"""A submission checked as the scorer does: by its own reading of the file, apart from what wrote it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from inference.notebook.rehearsal.verdict import ErrorClass, Fault
from kaggle_rag.runtime.words import counted

ID, PREDICTION = "id", "prediction"
NAME = "submission.csv"
# What pandas reads as a missing value, in lower case.
_EMPTY = {"", "nan", "null", "none", "na", "n/a", "#n/a", "<na>", "-nan"}


def judge(path: Path, ids: Sequence[str], letters: str, top: int) -> Fault | None:
    """The first fault for which a scorer would refuse a submission; ``None`` if it would score it.

    Parameters
    ----------
    path : the submission; that there is one was found before.
    ids : those of the hidden questions, each once, in any order.
    letters : of the option columns that the questions have.
    top : letters that the competition takes per question.
    """
    table = _table(path)
    if isinstance(table, Fault):
        return table
    header, rows = table
    if header != [ID, PREDICTION] and sorted(header) != sorted([ID, PREDICTION]):
        return Fault(
            ErrorClass.SCORING, f"{counted(len(header), 'column')} ({', '.join(header)}) instead of 2",
            f"write {ID} and {PREDICTION} alone (pandas: index=False)", NAME,
        )  # fmt: skip
    at_id, at_prediction = header.index(ID), header.index(PREDICTION)
    predictions = [(row[at_id], row[at_prediction]) for row in rows]
    return _wrong_ids([key for key, _ in predictions], ids) or _wrong_values(predictions, letters, top)


def _table(path: Path) -> tuple[list[str], list[list[str]]] | Fault:
    """Header and rows of equal length, or why there are none."""
    cure = f"write UTF-8 CSV with the header {ID},{PREDICTION} and a row for each question"
    try:
        text = path.read_bytes().decode("utf-8-sig")
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except UnicodeDecodeError:
        return Fault(ErrorClass.FORMAT, "the file is not in UTF-8", cure, NAME)
    except csv.Error as error:
        return Fault(ErrorClass.FORMAT, f"the file is not CSV ({error})", cure, NAME)
    except ValueError:
        return Fault(ErrorClass.FORMAT, "the file is empty", cure, NAME)
    if missing := [name for name in (ID, PREDICTION) if name not in header]:
        found = ", ".join(header)[:80]
        return Fault(ErrorClass.FORMAT, f"no column {missing[0]!r}; found {found!r}", cure, NAME)
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            cause = f"{counted(len(row), 'cell')}, and {counted(len(header), 'column')}"
            return Fault(ErrorClass.FORMAT, cause, cure, f"{NAME}, row {number}")
    return header, rows


def _wrong_ids(found: Sequence[str], ids: Sequence[str]) -> Fault | None:
    """Rows that are missing, twice there, or of no question."""
    known, there = set(ids), set(found)
    cure = "take the ids of test.csv as they are (pandas: dtype=str), and write a row for each"
    unknown = [key for key in found if key not in known]
    missing = [key for key in ids if key not in there]
    if unknown:
        found_ids = counted(len(unknown), "id is", "ids are")
        cause = f"{found_ids} not in the test set, the first is {unknown[0]!r}"
    elif len(there) < len(found):
        twice = next(key for key in found if found.count(key) > 1)
        cause = f"{counted(len(found) - len(there), 'id has', 'ids have')} two rows, the first is {twice!r}"
    elif missing:
        asked = counted(len(ids), "question has", "questions have")
        cause = f"{len(missing):,} of {asked} no row, the first is {missing[0]!r}"
        cure = "answer every row of test.csv: the hidden one has another number of them than the visible one"
    else:
        return None
    return Fault(ErrorClass.SCORING, cause, cure, NAME)


def _wrong_values(predictions: Sequence[tuple[str, str]], letters: str, top: int) -> Fault | None:
    """Empty predictions, other words than letters, and too many of them."""
    for number, (key, text) in enumerate(predictions, 1):
        words = text.split()
        strange = [word for word in words if word not in letters or len(word) != 1]
        if text.strip().lower() in _EMPTY:
            cause, cure = f"the prediction is empty ({text!r})", "write letters for every question"
        elif strange:
            cause = f"{strange[0]!r} is no option"
            cure = f"write letters of {letters} separated by spaces, the most likely first, such as 'B A D'"
        elif len(words) > top:
            cause = f"{counted(len(words), 'letter')}, and the competition takes {top}"
            cure = f"write the {top} most likely ones (if it takes more: --top {len(words)})"
        elif len(set(words)) < len(words):
            cause, cure = f"a letter is repeated in {text!r}", "write every letter once"
        else:
            continue
        return Fault(ErrorClass.SCORING, cause, cure, f"{NAME}, row {number}, id {key!r}")
    return None
