"""Questions as they are typed: by flags, or line by line on standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from kaggle_rag.data.questions import LETTERS, Questions
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.words import counted


def from_words(prompt: str, options: list[str]) -> Questions:
    """A question from its prompt and options."""
    if len(options) > len(LETTERS):
        raise InputError(counted(len(options), "option"), expected=f"2 to {len(LETTERS)}")
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
