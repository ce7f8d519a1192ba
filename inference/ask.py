"""Ask one question: ranked letters, probabilities, and the sentences that decided."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from inference.pipeline import Bench, find_contexts, predict
from kaggle_rag.errors import InputError
from kaggle_rag.metrics import ranking
from kaggle_rag.questions import LETTERS, Questions

_SHOWN = 5


def from_words(prompt: str | None, options: list[str]) -> Questions:
    """One question from flags, or typed at a prompt when none were given."""
    if prompt is None and options:
        raise InputError("options without a question", where="--option", expected="--prompt beside them")
    if prompt is None:
        prompt = _typed("question: ")
        options = []
        while len(options) < len(LETTERS) and (line := _typed(f"{LETTERS[len(options)]}: ")):
            options.append(line)
    if len(options) > len(LETTERS):
        raise InputError(f"{len(options)} options", expected=f"2 to {len(LETTERS)}")
    if not prompt.strip() or sum(bool(option.strip()) for option in options) < 2:
        raise InputError("too little to rank", expected="a question and at least two options")
    return Questions.from_rows([{"id": "asked", "prompt": prompt, **dict(zip(LETTERS, options))}], "ask")


def _typed(label: str) -> str:
    if sys.stdin.isatty():
        try:
            return input(label).strip()
        except EOFError:
            return ""
    return sys.stdin.readline().strip()


def answer(bench: Bench, asked: Questions) -> dict[str, Any]:
    """The answer as a plain structure, as ``--json`` prints it."""
    found = find_contexts(bench, asked, quiet=True)
    table = predict(bench, asked, found, quiet=True)[0]
    options = asked.options[0]
    order = [int(c) for c in ranking(table[None], asked.present)[0] if options[c] is not None]
    return {
        "prompt": asked.prompts[0],
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
    lines = [f"{row['letter']}  {row['probability']:6.1%}  {row['option']}" for row in result["ranking"]]
    lines.append("")
    lines += [f"{e['distance']:.3f}  [{e['query']}] {e['title']}: {e['text']}" for e in result["evidence"]]
    return "\n".join(lines)
