"""A hidden test set that stands in for the real one: made from the visible one, and harder."""

from __future__ import annotations

import csv
import dataclasses
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kaggle_rag.data.cells import text_of
from kaggle_rag.data.compressed import inner_name
from kaggle_rag.data.questions import Questions, id_text
from kaggle_rag.data.tables import Row, read_rows

# Characters of a very long text: more than any context that a model reads.
_LONG = 20_000
_SAMPLE = "sample_submission.csv"


@dataclasses.dataclass(frozen=True)
class Visible:
    """The competition's visible test file.

    Attributes
    ----------
    path : the file.
    ending : its format, such as ``.csv``.
    rows : as `kaggle_rag.data.tables.read_rows` gives them.
    columns : in their order, without ``answer``, which no test file has.
    letters : of its option columns.
    """

    path: Path
    ending: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    letters: str

    @classmethod
    def read(cls, path: Path) -> Visible:
        """Read it.

        Raises
        ------
        InputError : it is no table of questions.
        """
        rows = tuple(read_rows(path))
        letters = Questions.read(path).letters
        columns = tuple(
            name for name in dict.fromkeys(key for row in rows for key in row) if name != "answer"
        )
        return cls(path, Path(inner_name(path)).suffix, rows, columns, letters)


@dataclasses.dataclass(frozen=True)
class Hidden:
    """A hidden test set; ``ids`` as text, in the order of the rows."""

    rows: tuple[Row, ...]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)


def hidden(visible: Visible, factor: int, *, odd: bool, seed: int) -> Hidden:
    """A test set of ``factor`` times the visible rows, in another order, with new ids.

    Copies of a row differ in the order of the words of the prompt, so that nothing can be answered twice
    from one cache. ``odd`` adds rows with empty and very long texts, emoji, and missing options, so that
    their number is another one than the visible.
    """
    draw = random.Random(seed)
    rows = []
    for copy in range(factor):
        rows += [_reworded(dict(row), copy) for row in visible.rows]
    if odd:
        chosen = [dict(draw.choice(visible.rows)) for _ in ODD]
        rows += [change(row, visible.letters) for change, row in zip(ODD.values(), chosen)]
    draw.shuffle(rows)
    ids = _new_ids([row["id"] for row in visible.rows], len(rows), draw)
    made = [
        {name: key if name == "id" else row.get(name) for name in visible.columns}
        for key, row in zip(ids, rows)
    ]
    return Hidden(tuple(made), tuple(map(id_text, ids)))


def _reworded(row: Row, copy: int) -> Row:
    """A row with the words of its prompt moved on by ``copy`` places."""
    words = str(row.get("prompt") or "").split(" ")
    if copy and len(words) > 1:
        places = copy % len(words)
        row["prompt"] = " ".join([*words[places:], *words[:places]])
    return row


def _new_ids(ids: Sequence[Any], count: int, draw: random.Random) -> list[Any]:
    """Other ids of the same kind as these, in no order."""
    texts = [id_text(key).strip() for key in ids]
    whole = [int(text) for text in texts if text.removeprefix("-").isdecimal()]
    if len(whole) < len(ids):
        return [f"h{draw.getrandbits(24):06x}{number:05x}" for number in range(count)]
    numbers = [max(whole) + 1 + number for number in range(count)]
    draw.shuffle(numbers)
    kind = type(ids[0])
    return [kind(number) for number in numbers] if kind in (int, float) else [*map(str, numbers)]


def _without_prompt(row: Row, letters: str) -> Row:
    return {**row, "prompt": ""}


def _without_words(row: Row, letters: str) -> Row:
    return {**row, "prompt": " ?\n"}


def _very_long_prompt(row: Row, letters: str) -> Row:
    return {**row, "prompt": _long(row["prompt"])}


def _very_long_option(row: Row, letters: str) -> Row:
    return {**row, letters[-1]: _long(row[letters[0]])}


def _emoji(row: Row, letters: str) -> Row:
    return {**row, "prompt": f"🧪👩🏽‍🔬 {row['prompt']} ∑ß鉄", letters[0]: "🪐"}


def _punctuation(row: Row, letters: str) -> Row:
    return {**row, letters[0]: 'a "quoted",\r\nbroken; line', "prompt": f"'{row['prompt']}\",\n"}


def _missing_options(row: Row, letters: str) -> Row:
    """Only the first and the last option are left."""
    return {**row, **dict.fromkeys(letters[1:-1])}


def _no_options(row: Row, letters: str) -> Row:
    return {**row, **dict.fromkeys(letters)}


def _long(text: Any) -> str:
    words = str(text or "long") + " "
    return (words * (_LONG // len(words) + 1))[:_LONG]


ODD: dict[str, Callable[[Row, str], Row]] = {
    "an empty prompt": _without_prompt,
    "a prompt without words": _without_words,
    "a very long prompt": _very_long_prompt,
    "a very long option": _very_long_option,
    "emoji": _emoji,
    "quotes and line breaks": _punctuation,
    "missing options": _missing_options,
    "no options": _no_options,
}


def write_competition(folder: Path, name: str, visible: Visible, hidden: Hidden) -> None:
    """Write the competition's files: the test set under this name, and a sample submission."""
    folder.mkdir(parents=True, exist_ok=True)
    _WRITERS[visible.ending](folder / name, visible, hidden.rows)
    with (folder / _SAMPLE).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "prediction"), *((key, visible.letters[0]) for key in hidden.ids)])


def _write_csv(path: Path, visible: Visible, rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, visible.columns)
        writer.writeheader()
        writer.writerows(rows)


def _write_jsonl(path: Path, visible: Visible, rows: Sequence[Row]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def _write_parquet(path: Path, visible: Visible, rows: Sequence[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(visible.path)
    columns = {}
    for name in visible.columns:
        kind, values = schema.field(name).type, [row.get(name) for row in rows]
        if pa.types.is_integer(kind):
            # New ids are beyond the visible ones.
            kind = pa.int64()
        if any(isinstance(value, str) for value in values):
            # Odd rows have texts where the visible ones have numbers.
            kind, values = pa.string(), [None if value is None else text_of(value, name) for value in values]
        columns[name] = pa.array(values, kind)
    pq.write_table(pa.table(columns), path)


_WRITERS = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
