"""The page to ask in: a form, and the answer to the last question as a report shows it."""

from __future__ import annotations

import dataclasses
from html import escape
from typing import NamedTuple

from inference.asking.session import Answer
from inference.report.document import document
from inference.report.items import question_html
from inference.report.measures import Answered, question_views

_MIX = "all together"


class Typed(NamedTuple):
    """What stands in the form: a question, and its options, one a line."""

    prompt: str = ""
    options: str = ""


def ask_page(typed: Typed, *, answer: Answer | None = None, fault: str = "") -> str:
    """The form, and below it the answer, or what was wrong with the question."""
    said = f"<p class=fault role=alert>{escape(fault)}</p>\n" if fault else ""
    shown = (
        f"<section aria-labelledby=answer><h2 id=answer>Answer</h2>\n{_answer(answer)}</section>\n"
        if answer
        else ""
    )
    return document(
        "Ask",
        f"<header><p>kaggle-rag</p><h1>Ask</h1></header>\n<main>\n{said}{_form(typed)}{shown}</main>\n",
        forms="'self'",
    )


def _form(typed: Typed) -> str:
    # A line break directly behind the tag would be dropped.
    return (
        "<form method=post class=ask>\n"
        f"<label for=prompt>Question</label>\n<textarea id=prompt name=prompt rows=3 required dir=auto>\n"
        f"{escape(typed.prompt)}</textarea>\n"
        "<label for=options>Options, one a line</label>\n"
        f"<textarea id=options name=options rows=5 required dir=auto>\n{escape(typed.options)}</textarea>\n"
        "<button>Answer</button>\n</form>\n"
    )


def _answer(answer: Answer) -> str:
    answered = Answered(answer.question, answer.tables, {_MIX: answer.mixed}, [answer.contexts])
    (view,) = question_views(answered)
    return question_html(0, dataclasses.replace(view, id=""), [_MIX, *answer.tables], unfolded=True)
