"""The query forms of a question: with all options, with each, or each option alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from kaggle_rag.data.questions import LETTERS, Question

# An encoder reads about the first 256 tokens. Of a long prompt the end is kept, which has the question,
# so that the option after it is still read.
PROMPT_CHARACTERS = 700


class Query(NamedTuple):
    """``form`` is ``all``, or the option's letter, after ``bare`` for the option alone."""

    form: str
    option: int | None
    text: str


Options = Sequence[str | None]


def _all(prompt: str, options: Options) -> Iterator[Query]:
    present = " ".join(option for option in options if option is not None)
    yield Query("all", None, f"{prompt} {present}")


def _each(prompt: str, options: Options) -> Iterator[Query]:
    for column, option in enumerate(options):
        if option is not None:
            yield Query(LETTERS[column], column, f"{prompt} {option}")


def _bare(prompt: str, options: Options) -> Iterator[Query]:
    for column, option in enumerate(options):
        if option is not None:
            yield Query(f"bare {LETTERS[column]}", column, option)


FORMS: dict[str, Callable[[str, Options], Iterator[Query]]] = {
    "all": _all,
    "each": _each,
    "option": _bare,
}


def short_prompt(prompt: str) -> str:
    """The end of a prompt that an encoder can read along with an option."""
    return prompt[-PROMPT_CHARACTERS:]


def queries_of(
    questions: Iterable[Question], forms: Sequence[str], instruction_forms: Sequence[str]
) -> list[list[Query]]:
    """The queries of each question, in the order of the forms."""
    return [
        [
            query
            for form in (forms if question.is_question else instruction_forms)
            for query in FORMS[form](short_prompt(question.prompt), question.options)
        ]
        for question in questions
    ]
