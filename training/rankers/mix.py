"""Question sets as one to train on, small ones drawn more often than their size says."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kaggle_rag.data.contexts import OWN, Context, QuestionContexts, write_contexts
from kaggle_rag.data.questions import LETTERS, Questions, id_text
from kaggle_rag.evaluation.duplicates import find_shared
from kaggle_rag.runtime.errors import ConfigError, InputError
from kaggle_rag.runtime.files import require_apart, require_new, whole_file
from kaggle_rag.runtime.words import counted
from training.loop.checks import require_distinct
from training.rankers.dataset import RankerDataset


class QuestionSet(NamedTuple):
    """A file of questions with answers, and their contexts."""

    questions: Path
    contexts: Path | None

    @property
    def name(self) -> str:
        return self.questions.stem


@dataclasses.dataclass(frozen=True)
class Mixed:
    """Of each set, how many questions it has, how many of them repeat others, and how many were taken."""

    sets: Mapping[str, tuple[int, int, int]]

    def text(self) -> str:
        wide = max(map(len, self.sets))
        lines = [f"{'set':<{wide}}  questions  repeated  taken"]
        for name, (questions, copies, taken) in self.sets.items():
            lines.append(f"{name:<{wide}}  {questions:>9,}{copies:>10,}{taken:>7,}")
        return "\n".join(lines)


def mix_sets(
    sets: Sequence[QuestionSet], out: Path, contexts_out: Path | None, *, temperature: float = 0.5,
    most: int | None = None, exclude: Sequence[Path] = (), seed: int = 0,
) -> Mixed:  # fmt: skip
    """Write one table, ids as ``SET/ID``, and one contexts file.

    A question that is a near-duplicate of one of ``exclude``, or of a set before its own, is left out.

    Parameters
    ----------
    temperature : a set of ``n`` questions counts ``n ** temperature``: 1 as it is, 0 as any other (Raffel et
        al. 2020, T5, https://arxiv.org/abs/1910.10683, section 3.5.2, whose temperature is the inverse). No
        question is taken twice.
    most : questions in all (default: all of them, whatever the temperature).

    Raises
    ------
    ConfigError : two sets of one name; contexts for some sets only.
    InputError : the excluded files leave no question.
    ArtifactError : an output exists.
    """
    _require_fitting(sets, contexts_out)
    require_apart(out, contexts_out)
    for path, ending in ((out, ".csv"), (contexts_out, ".parquet")):
        if path and path.suffix != ending:
            raise ConfigError(f"cannot be written as {path.suffix!r}", where=path, expected=ending)
        if path:
            require_new(path, "a file")
    read = [RankerDataset.read(*each) for each in sets]
    kept = _without_copies([each.questions for each in read], [Questions.read(path) for path in exclude])
    if not any(map(len, kept)):
        raise InputError(
            "every question repeats one of the excluded files", where=", ".join(map(str, exclude)),
            expected="questions that they do not hold", cure="leave one of them out of --exclude",
        )  # fmt: skip
    counts = shares([len(rows) for rows in kept], temperature, most)
    rng = np.random.default_rng(seed)
    taken = [
        data.take(np.sort(rng.permutation(rows)[:count])) for data, rows, count in zip(read, kept, counts)
    ]
    names = [each.name for each in sets]
    rows = _rows(dict(zip(names, (each.questions for each in taken))))
    # Neither is there without the other.
    with whole_file(out) as aside:
        _write_table(aside, rows)
        if contexts_out:
            notes = {"mixed": names, "temperature": temperature, "seed": seed}
            write_contexts(
                contexts_out, Questions.from_rows(rows, str(out)), [*_contexts(names, taken)], notes
            )
    return Mixed(
        {
            name: (len(data), len(data) - len(rows), count)
            for name, data, rows, count in zip(names, read, kept, counts)
        }
    )


def shares(sizes: Sequence[int], temperature: float, most: int | None) -> list[int]:
    """How many questions to take of sets of these sizes: what a small set lacks is taken of the others."""
    left, room = min(most or sum(sizes), sum(sizes)), np.array(sizes, dtype=np.int64)
    while left:
        weights = np.where(room > 0, np.asarray(sizes, dtype=np.float64) ** temperature, 0.0)
        quotas = left * weights / weights.sum()
        wanted = np.minimum(np.floor(quotas).astype(np.int64), room)
        if not wanted.any():
            # Fewer than there are sets: those that are nearest to one more.
            wanted[np.argsort(-quotas, kind="stable")[:left]] = 1
        elif (rest := left - int(wanted.sum())) < len(sizes) and (quotas < room).all():
            wanted[np.argsort(wanted - quotas, kind="stable")[:rest]] += 1
        room, left = room - wanted, left - int(wanted.sum())
    return [int(size - still) for size, still in zip(sizes, room)]


def _require_fitting(sets: Sequence[QuestionSet], contexts_out: Path | None) -> None:
    require_distinct([each.name for each in sets], "sets")
    given = [each for each in sets if each.contexts]
    if (given and len(given) < len(sets)) or bool(given) != bool(contexts_out):
        raise ConfigError(
            f"{counted(len(given), 'contexts file')} for {counted(len(sets), 'set')}", where="--contexts",
            expected="one for each set, in their order, and --contexts-out; or none",
        )  # fmt: skip


def _without_copies(tables: Sequence[Questions], excluded: Sequence[Questions]) -> list[np.ndarray[Any, Any]]:
    """The rows of each table that repeat no row of the excluded tables or of those before it."""
    kept = []
    for number, table in enumerate(tables):
        copies = {
            pair.left for other in (*excluded, *tables[:number]) for pair in find_shared(table, other)
        }
        kept.append(np.setdiff1d(np.arange(len(table)), np.array(sorted(copies), dtype=np.int64)))
    return kept


def _rows(tables: Mapping[str, Questions]) -> list[dict[str, Any]]:
    """All questions in one layout, with the contexts that they bring, if any do."""
    letters = LETTERS[: max(table.width for table in tables.values())]
    brings = any(context is not None for table in tables.values() for context in table.contexts)
    return [
        {
            "id": f"{name}/{id_text(question.id)}", "prompt": question.prompt, **dict.fromkeys(letters),
            **dict(zip(letters, question.options)), "answer": LETTERS[question.answer],
            "is_question": question.is_question, **({"context": question.context} if brings else {}),
        }
        for name, table in tables.items() for question in table
    ]  # fmt: skip


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _contexts(names: Sequence[str], taken: Sequence[RankerDataset]) -> Iterator[QuestionContexts]:
    """Contexts whose articles say which set's index they are of: two indexes number them alike."""

    def named(context: Context | None, name: str) -> Context | None:
        if context is None:
            return None
        evidence = (
            each if each.article_id == OWN else each._replace(article_id=f"{name}/{each.article_id}")
            for each in context.evidence
        )
        return context._replace(evidence=tuple(evidence))

    for name, data in zip(names, taken):
        for each in data.contexts or ():
            yield QuestionContexts(
                named(each.shared, name), tuple(named(context, name) for context in each.by_option)
            )
