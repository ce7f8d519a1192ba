"""Ask questions: ranked letters, probabilities, and the sentences that decided."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from kaggle_rag.data.probabilities import ranking
from kaggle_rag.data.questions import LETTERS, Questions
from kaggle_rag.runtime.errors import InputError

if TYPE_CHECKING:
    from kaggle_rag.rankers.resources import Resources

_SHOWN = 5


def from_words(prompt: str, options: list[str]) -> Questions:
    """One question of its words."""
    if len(options) > len(LETTERS):
        raise InputError(f"{len(options)} options", expected=f"2 to {len(LETTERS)}")
    if not prompt.strip() or sum(bool(option.strip()) for option in options) < 2:
        raise InputError("too little to rank", expected="a question and at least two options")
    return Questions.from_rows([{"id": "asked", "prompt": prompt, **dict(zip(LETTERS, options))}], "ask")


def asked(prompt: str | None, options: list[str]) -> Iterator[Questions | InputError]:
    """The question of the flags, or those that are typed until there are no more.

    A question is a line, and each of its options one; an empty line ends it. An empty question or the end
    of the input (Ctrl-D) ends all. What cannot be asked comes as its fault.
    """
    if prompt is None and options:
        raise InputError("options without a question", where="--option", expected="--prompt beside them")
    if prompt is not None:
        yield from_words(prompt, options)
        return
    for count, (line, typed) in enumerate(_questions()):
        if not line and count == 0:
            raise InputError(
                "no question was asked", expected="--prompt and --option, or a question typed or piped in"
            )
        if not line:
            return
        try:
            yield from_words(line, typed)
        except InputError as error:
            yield error


def _questions() -> Iterator[tuple[str, list[str]]]:
    """What is typed, and an empty question at the end."""
    while line := _typed("question (empty to end): "):
        options: list[str] = []
        while len(options) < len(LETTERS) and (option := _typed(f"{LETTERS[len(options)]}: ")):
            options.append(option)
        yield line, options
    yield "", []


def _typed(label: str) -> str:
    """A line, empty where there are no more."""
    # A program that is started with its input closed has none.
    if sys.stdin is None or sys.stdin.closed:
        return ""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    try:
        return input(label).strip()
    except EOFError:
        print()
        return ""


class Session:
    """Answers questions one after the other by models that are opened once."""

    def __init__(self, resources: Resources) -> None:
        from inference.checks import asked_rankers
        from inference.predict import require_room
        from kaggle_rag.rankers.registry import make_ranker

        self.resources, self.retriever = resources, resources.retriever()
        self._open = ExitStack()
        with ExitStack() as opened:
            self.rankers = []
            for each in asked_rankers(resources.solution):
                made = make_ranker(each.kind, each.options, encoder=resources.encoder, index=resources.index)
                require_room(made, resources.solution)
                self.rankers.append(opened.enter_context(made))
            self._open = opened.pop_all()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def answer(self, question: Questions) -> dict[str, Any]:
        """The answer as a plain structure, as ``--json`` prints it."""
        from inference.predict import mixed

        found = self.retriever(question)
        tables = [ranker.probabilities(question, found) for ranker in self.rankers]
        return _told(question, found, mixed(self.resources.solution, tables, question.present)[0])


def answer(resources: Resources, question: Questions) -> dict[str, Any]:
    """The answer to a single question; rankers give their memory back one after the other."""
    from inference.predict import predict

    found = resources.retriever()(question)
    return _told(question, found, predict(resources, question, found, quiet=True)[0])


def _told(question: Questions, found: Any, table: Any) -> dict[str, Any]:
    options = question.options[0]
    order = [int(c) for c in ranking(table[None], question.present)[0] if options[c] is not None]
    return {
        "prompt": question.prompts[0],
        "ranking": [
            {"letter": LETTERS[c], "option": options[c], "probability": float(np.float32(table[c]))}
            for c in order
        ],
        "evidence": [
            {
                "title": e.title,
                "text": e.text,
                "distance": e.distance,
                "score": e.score,
                "query": e.query,
                "found_by": e.retriever,
            }
            for e in found[0].evidence()[:_SHOWN]
        ],
    }


def show(result: dict[str, Any]) -> str:
    """The same for a person."""
    lines = ["probability of each option:"]
    lines += [f"{row['letter']}  {row['probability']:6.1%}  {row['option']}" for row in result["ranking"]]
    lines += ["", "evidence: distance (0 is the same text), [query that found it], title: text"]
    lines += [f"{e['distance']:.3f}  [{e['query']}] {e['title']}: {e['text']}" for e in result["evidence"]]
    return "\n".join(lines)
