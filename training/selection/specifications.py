"""What the test asks: example questions of a table, or sentences of a text file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from kaggle_rag.data.questions import Questions, id_text
from kaggle_rag.data.texts import text_lines
from kaggle_rag.evaluation.duplicates import embedding_texts
from kaggle_rag.evaluation.nearness import words
from kaggle_rag.runtime.errors import InputError

_TEXT_FILE = ".txt"


@dataclasses.dataclass(frozen=True)
class Specifications:
    """``s`` texts to look for, each with a name; ``tables`` are the question files among their sources."""

    names: tuple[str, ...]
    texts: tuple[str, ...]
    tables: dict[str, Questions]

    def __len__(self) -> int:
        return len(self.names)


def read_specifications(paths: Sequence[Path]) -> Specifications:
    """Read question tables (an example a row) and ``.txt`` files (a sentence a line).

    A question is its prompt and its options, whichever is right; its name is ``FILE/ID``, that of a sentence
    ``FILE:LINE``.

    Raises
    ------
    InputError : a file that holds none, or one without a word.
    """
    names: list[str] = []
    texts: list[str] = []
    tables: dict[str, Questions] = {}
    for path in paths:
        if path.suffix == _TEXT_FILE:
            found = _sentences(path)
        else:
            table = tables[str(path)] = Questions.read(path)
            found = dict(zip((f"{path.stem}/{id_text(key)}" for key in table.ids), embedding_texts(table)))
        names += found
        texts += found.values()
    for name, text in zip(names, texts):
        if not words(text):
            raise InputError(
                f"a specification without a word: {text!r}", where=name, expected="a question or a sentence",
                cure="remove it",
            )  # fmt: skip
    return Specifications(tuple(names), tuple(texts), tables)


def _sentences(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise InputError("no such file", where=path, cure="check the spelling of the path")
    lines = {f"{path.stem}:{number}": line.strip() for number, line in enumerate(text_lines(path), 1)}
    if not (found := {name: line for name, line in lines.items() if line}):
        raise InputError(
            "the file is empty", where=path, expected="sentences that say what is asked, one a line"
        )
    return found
