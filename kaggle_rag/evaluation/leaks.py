"""Which questions of other files repeat a training question: the leak report."""

from __future__ import annotations

import collections
import dataclasses
import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy.typing as npt

from kaggle_rag.data.questions import Questions, id_text
from kaggle_rag.evaluation.duplicates import DEFAULT, REASONS, Thresholds, find_shared
from kaggle_rag.runtime.errors import ConfigError

_WIDTH = 100


class Leak(NamedTuple):
    """A row of another file that repeats a training row; ``reason`` is a key of ``REASONS``."""

    file: str
    id: str
    train_id: str
    reason: str
    similarity: float
    contradicts: bool
    text: str
    train_text: str


@dataclasses.dataclass(frozen=True)
class LeakReport:
    """Which rows repeat which.

    Attributes
    ----------
    rows : how many questions each file has, by its name.
    leaks : every pair, file by file, the most alike first.
    """

    rows: Mapping[str, int]
    leaks: tuple[Leak, ...]

    def repeated(self, file: str) -> set[str]:
        """Ids of the rows of a file that repeat a training row."""
        return {leak.id for leak in self.leaks if leak.file == file}

    def text(self, examples: int = 3) -> str:
        """A table of the files, and the first examples of each reason with both texts."""
        lines = [f"{'file':<24} {'rows':>7} {'repeated':>9} {'contradicting':>14}"]
        for file, rows in self.rows.items():
            contradicting = {leak.id for leak in self.leaks if leak.file == file and leak.contradicts}
            lines.append(f"{file:<24} {rows:>7,} {len(self.repeated(file)):>9,} {len(contradicting):>14,}")
        seen: collections.Counter[tuple[str, str]] = collections.Counter()
        for leak in self.leaks:
            seen[leak.file, leak.reason] += 1
            if seen[leak.file, leak.reason] <= examples:
                lines += _example(leak)
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The whole report in a form that `json.dumps` accepts."""
        return {
            "files": {
                file: {
                    "rows": rows,
                    "repeated": len(self.repeated(file)),
                    "reasons": dict(collections.Counter(x.reason for x in self.leaks if x.file == file)),
                }
                for file, rows in self.rows.items()
            },
            "leaks": [leak._asdict() for leak in self.leaks],
        }


def leak_report(
    train: Questions,
    others: Mapping[str, Questions],
    *,
    train_vectors: npt.ArrayLike | None = None,
    vectors: Mapping[str, npt.ArrayLike] | None = None,
    thresholds: Thresholds = DEFAULT,
) -> LeakReport:
    """Find the rows of each other table that repeat a row of ``train``.

    Parameters
    ----------
    others : by the name the report gives them: validation, test, or any file.
    train_vectors, vectors : ``(n, d)`` embeddings of the training questions, and those of each other
        table by its name; a table without vectors is compared by words alone.

    Raises
    ------
    ConfigError : vectors of an unknown table, or of others without those of ``train``; a threshold
        finds hundreds of pairs per question.
    InputError : vectors that do not fit their table.
    """
    vectors = vectors or {}
    if unknown := set(vectors) - set(others):
        raise ConfigError(f"vectors of {min(unknown)!r}", expected="one of " + ", ".join(others))
    if vectors and train_vectors is None:
        raise ConfigError("vectors of other tables without those of the training table")
    leaks: list[Leak] = []
    for file, other in others.items():
        both = (train_vectors, vectors[file]) if train_vectors is not None and file in vectors else None
        pairs = find_shared(train, other, both, thresholds)
        for pair in sorted(pairs, key=lambda p: (list(REASONS).index(p.reason), -p.similarity, p.right)):
            leaks.append(
                Leak(
                    file, id_text(other.ids[pair.right]), id_text(train.ids[pair.left]), pair.reason,
                    round(pair.similarity, 4), pair.contradicts,
                    shown(other, pair.right), shown(train, pair.left),
                )
            )  # fmt: skip
    return LeakReport({file: len(other) for file, other in others.items()}, tuple(leaks))


def shown(questions: Questions, row: int) -> str:
    """A question on one line, its right option marked by an asterisk."""
    options = " | ".join(
        ("*" if column == questions.answers[row] else "") + " ".join(option.split())
        for column, option in enumerate(questions.options[row])
        if option is not None
    )
    return f"{' '.join(questions.prompts[row].split())} [{options}]"


def _example(leak: Leak) -> list[str]:
    reason = f"{REASONS[leak.reason]} ({leak.similarity:.2f})"
    remark = "; the answers contradict" if leak.contradicts else ""
    return [
        f"{leak.file} {leak.id} = train {leak.train_id}: {reason}{remark}",
        "    " + textwrap.shorten(leak.text, _WIDTH, placeholder=" ..."),
        "    " + textwrap.shorten(leak.train_text, _WIDTH, placeholder=" ..."),
    ]
