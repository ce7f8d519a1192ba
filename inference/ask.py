"""Ask questions: ranked letters, probabilities, and the best evidence."""

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
    """A question from its prompt and options."""
    if len(options) > len(LETTERS):
        raise InputError(f"{len(options)} options", expected=f"2 to {len(LETTERS)}")
    if not prompt.strip() or sum(bool(option.strip()) for option in options) < 2:
        raise InputError("too little to rank", expected="a question and at least two options")
    return Questions.from_rows([{"id": "asked", "prompt": prompt, **dict(zip(LETTERS, options))}], "ask")


def read_questions(prompt: str | None, options: list[str]) -> Iterator[Questions | InputError]:
    """The question given by flags, or the questions on standard input.

    A question is one line, followed by one line per option; an empty line ends it. An empty question or the
    end of the input (Ctrl-D) ends the session. For an invalid question, its error is yielded.
    """
    if prompt is None and options:
        raise InputError("options without a question", where="--option", expected="--prompt with them")
    if prompt is not None:
        yield from_words(prompt, options)
        return
    for count, (line, typed) in enumerate(_typed_questions()):
        if not line and count == 0:
            raise InputError(
                "no question was asked", expected="--prompt and --option, or a question on standard input"
            )
        if not line:
            return
        try:
            yield from_words(line, typed)
        except InputError as error:
            yield error


def _typed_questions() -> Iterator[tuple[str, list[str]]]:
    """Each question on standard input, then an empty one."""
    while line := _read_line("question (empty to quit): "):
        options: list[str] = []
        while len(options) < len(LETTERS) and (option := _read_line(f"{LETTERS[len(options)]}: ")):
            options.append(option)
        yield line, options
    yield "", []


def _read_line(label: str) -> str:
    """The next line of input, empty if there is none."""
    # There is no standard input if the program was started with it closed.
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
    """Answers questions one after another with models that are opened once."""

    def __init__(self, resources: Resources) -> None:
        from inference.checks import active_rankers
        from inference.ranker_turn import require_room, workspace
        from kaggle_rag.rankers.registry import make_ranker

        self.resources, self.retriever = resources, resources.retriever()
        self._open = ExitStack()
        with ExitStack() as opened:
            self.rankers = []
            for settings in active_rankers(resources.solution):
                ranker = make_ranker(
                    settings.kind, settings.options, encoder=resources.encoder, index=resources.index,
                    workspace=workspace(resources.solution),
                )  # fmt: skip
                require_room(ranker, resources.solution)
                self.rankers.append(opened.enter_context(ranker))
            self._open = opened.pop_all()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def answer(self, question: Questions) -> dict[str, Any]:
        """The answer as plain JSON, as ``--json`` prints it."""
        from inference.cascade import mixed

        contexts = self.retriever(question)
        tables = [ranker.probabilities(question, contexts) for ranker in self.rankers]
        return _as_json(question, contexts, mixed(self.resources.solution, tables, question.present)[0])


def answer(resources: Resources, question: Questions) -> dict[str, Any]:
    """The answer to a single question; only one ranker is in memory at a time."""
    from inference.predict import predict

    contexts = resources.retriever()(question)
    return _as_json(question, contexts, predict(resources, question, contexts)[0])


def _as_json(question: Questions, contexts: Any, probabilities: Any) -> dict[str, Any]:
    options = question.options[0]
    order = [int(c) for c in ranking(probabilities[None], question.present)[0] if options[c] is not None]
    return {
        "prompt": question.prompts[0],
        "ranking": [
            {"letter": LETTERS[c], "option": options[c], "probability": float(np.float32(probabilities[c]))}
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
            for e in contexts[0].evidence()[:_SHOWN]
        ],
    }


def show(result: dict[str, Any]) -> str:
    """The answer as readable text."""
    lines = ["probability of each option:"]
    lines += [f"{row['letter']}  {row['probability']:6.1%}  {row['option']}" for row in result["ranking"]]
    lines += ["", "evidence: distance (0 is the same text), [query that found it], title: text"]
    lines += [f"{e['distance']:.3f}  [{e['query']}] {e['title']}: {e['text']}" for e in result["evidence"]]
    return "\n".join(lines)
