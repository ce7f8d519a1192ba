"""The most likely letters per question, three for the competition: written atomically, checked."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.cells import text_of
from kaggle_rag.data.columns import require_columns
from kaggle_rag.data.probabilities import ranking
from kaggle_rag.data.questions import LETTERS, check_ids, id_text
from kaggle_rag.data.tables import read_rows
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.files import whole_file
from kaggle_rag.runtime.words import counted

TOP = 3
HEADER = ("id", "prediction")


def top_letters(
    probabilities: npt.ArrayLike, present: npt.ArrayLike, top: int | Literal["all"] = TOP
) -> list[str]:
    """``"B A D"`` per row: the ``top`` most likely present options, ties in column order."""
    count = None if top == "all" else top
    present = np.asarray(present, dtype=bool)
    return [
        " ".join([LETTERS[column] for column in row if is_present[column]][:count])
        for row, is_present in zip(ranking(probabilities, present), present)
    ]


def write_submission(path: str | Path, ids: Sequence[Any], predictions: Sequence[str]) -> None:
    """Write ``id,prediction`` rows atomically, in the order of the questions."""
    with whole_file(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        # csv quotes a carriage return only when lines end with one.
        returns = any("\r" in id_text(key) for key in ids)
        writer = csv.writer(
            file, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
        )
        writer.writerow(HEADER)
        writer.writerows(zip(map(id_text, ids), predictions))


def is_submission(path: str | Path) -> bool:
    """Whether a file starts as a submission does; an empty one may become one."""
    with Path(path).open("rb") as file:
        head = file.readline(200).removeprefix(b"\xef\xbb\xbf").replace(b'"', b"").strip()
    return head in (b"", ",".join(HEADER).encode())


def read_submission(path: str | Path) -> dict[str, list[int]]:
    """Read a submission; return each id's ranked columns.

    Raises
    ------
    InputError : a missing column, an id in two rows, no letters, repeated letters.
    """
    predictions: dict[str, list[int]] = {}
    for number, row in enumerate(read_rows(path), 1):
        require_columns(row, HEADER, path, ",".join(HEADER))
        where = f"{path}, row {number}"
        key = id_text(row["id"], f"{where}, column id")
        if key in predictions:
            raise InputError(f"two rows for the question {key!r}", where=where, expected="one row each")
        cell = f"{where}, column prediction"
        predictions[key] = _columns(text_of(row["prediction"], cell) or "", cell)
    return predictions


def read_ids(path: str | Path) -> list[str]:
    """The ids of a sample submission, in its order; its predictions are meaningless and not read.

    Raises
    ------
    InputError : no column ``id``, no rows, an empty id, an id in two rows.
    """
    ids = []
    for row in read_rows(path):
        require_columns(row, HEADER[:1], path, ",".join(HEADER))
        ids.append(row["id"])
    if not ids:
        raise InputError("the file has a header but no rows", where=path, expected="an id in each row")
    check_ids(ids, str(path))
    return [id_text(value) for value in ids]


def validate(
    path: str | Path,
    ids: Sequence[Any],
    options: Sequence[Sequence[str | None]] | None = None,
    limit: int | None = None,
) -> list[list[int]]:
    """Read a submission and match it to the questions; return the ranked columns in their order.

    With ``limit``, only the first questions need rows; others may have them.

    Raises
    ------
    InputError : ids the questions do not have, too few rows, a letter the question does not have.
    """
    predictions = read_submission(path)
    wanted = [id_text(value) for value in ids]
    known = set(wanted)
    if unknown := [key for key in predictions if key not in known]:
        raise InputError(
            f"{counted(len(unknown), 'id is', 'ids are')} not in the questions, the first is {unknown[0]!r}",
            where=path,
            expected=f"ids such as {wanted[0]!r}",
            cure="score it against the questions it was made from",
        )
    wanted = wanted[:limit]
    if missing := [key for key in wanted if key not in predictions]:
        raise InputError(
            f"{len(missing)} of {counted(len(wanted), 'question has', 'questions have')} no row, "
            f"the first is {missing[0]!r}",
            where=path,
            expected="one row per question",
        )
    if options is not None:
        for key, row in zip(wanted, options):
            _check_options(predictions[key], row, f"{path}, id {key!r}")
    return [predictions[key] for key in wanted]


def ranks_in_submission(
    predictions: Sequence[Sequence[int]], answers: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """1-based rank of each right answer; 27, after every letter, if it is not in the row."""
    return np.array(
        [
            list(row).index(answer) + 1 if answer in row else len(LETTERS) + 1
            for row, answer in zip(predictions, answers)
        ],
        dtype=np.int64,
    )


def _columns(text: str, where: str) -> list[int]:
    letters = text.split()
    if not letters or any(x not in LETTERS or len(x) != 1 for x in letters):
        raise InputError(
            f"cannot read the prediction {text!r}",
            where=where,
            expected="letters separated by spaces, the most likely first, such as 'B A D'",
        )
    if len(set(letters)) < len(letters):
        raise InputError(f"a letter is repeated in {text!r}", where=where, expected="every letter once")
    return [LETTERS.index(letter) for letter in letters]


def _check_options(columns: Sequence[int], options: Sequence[str | None], where: str) -> None:
    for column in columns:
        if column >= len(options) or options[column] is None:
            raise InputError(f"the question has no option {LETTERS[column]}", where=where)
