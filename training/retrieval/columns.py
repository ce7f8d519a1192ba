"""Examples as the columns that losses take: query, passages and labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from training.retrieval.losses import Rows
from training.retrieval.mining import Example

Columns = dict[str, list[Any]]
# A teacher's score of a query and a passage; without one, the positive has 1 and the others 0.
Labels = Mapping[tuple[str, str], float]


def rows_of(kind: Rows, examples: Sequence[Example], labels: Labels | None = None) -> Columns:
    """Columns for a loss that learns from rows of ``kind`` (see `training.retrieval.losses.Rows`).

    ``labels`` are soft labels; a pair without one keeps its hard label.
    """
    return SHAPES[kind](examples, labels or {})


def prompted(examples: Sequence[Example], query: str, passage: str) -> list[Example]:
    """Prepend the model's prompts to the texts of the examples."""
    return [
        Example(e.id, query + e.query, passage + e.positive, tuple(passage + text for text in e.negatives))
        for e in examples
    ]


def pairs_of(example: Example) -> list[tuple[str, str]]:
    """The query with its positive, then with each negative."""
    return [(example.query, text) for text in (example.positive, *example.negatives)]


def _labels_of(example: Example, labels: Labels) -> list[float]:
    return [float(labels.get(pair, not number)) for number, pair in enumerate(pairs_of(example))]


def _tuples(examples: Sequence[Example], labels: Labels) -> Columns:
    columns: Columns = {"query": [e.query for e in examples], "positive": [e.positive for e in examples]}
    for number in range(min(len(e.negatives) for e in examples)):
        columns[f"negative_{number + 1}"] = [e.negatives[number] for e in examples]
    return columns


def _triplets(examples: Sequence[Example], labels: Labels) -> Columns:
    rows = [(e.query, e.positive, negative) for e in examples for negative in e.negatives]
    return dict(zip(("query", "positive", "negative_1"), map(list, zip(*rows))))


def _labelled(examples: Sequence[Example], labels: Labels) -> Columns:
    rows = [(*pair, label) for e in examples for pair, label in zip(pairs_of(e), _labels_of(e, labels))]
    return dict(zip(("query", "passage", "label"), map(list, zip(*rows))))


def _lists(examples: Sequence[Example], labels: Labels) -> Columns:
    return {
        "query": [e.query for e in examples],
        "passages": [[e.positive, *e.negatives] for e in examples],
        "labels": [_labels_of(e, labels) for e in examples],
    }


def _margins(examples: Sequence[Example], labels: Labels) -> Columns:
    return _tuples(examples, labels) | {"label": [_labels_of(e, labels) for e in examples]}


SHAPES: dict[Rows, Callable[[Sequence[Example], Labels], Columns]] = {
    "tuple": _tuples,
    "triplet": _triplets,
    "labelled": _labelled,
    "list": _lists,
    "margin": _margins,
}
