"""The snippets of a question, and the sentence among them that best supports an option."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from inference.report.data import SnippetView
from kaggle_rag.data.contexts import QuestionContexts, Snippet
from kaggle_rag.data.questions import LETTERS
from kaggle_rag.index.lexical import stems
from kaggle_rag.text.units import sentences


def best_score(contexts: QuestionContexts | None) -> float:
    """The score of a question's best evidence; NaN if it has none."""
    evidence = contexts.evidence() if contexts else []
    return evidence[0].score if evidence else float("nan")


def snippet_views(
    contexts: QuestionContexts | None, prompt: str, option: str, chosen: int
) -> tuple[SnippetView, ...]:
    """A question's snippets, those of the chosen option first; the sentence that best supports it is marked.

    Parameters
    ----------
    option, chosen : text and column of the chosen option.
    """
    if contexts is None:
        return ()
    read = contexts.of(chosen)
    views = (
        [_view(each, LETTERS[chosen] if contexts.by_option else "") for each in read.snippets] if read else []
    )
    found = best_sentence([each.text for each in views], prompt, option)
    if found:
        number, start, end = found
        views[number] = dataclasses.replace(views[number], marked=(start, end))
    return (*views, *_of_others(contexts, chosen, views))


def _of_others(
    contexts: QuestionContexts, chosen: int, shown: Sequence[SnippetView]
) -> tuple[SnippetView, ...]:
    """Snippets of the other options that are not shown yet, each once, with the letters it was found for."""
    known = {(each.title, each.text) for each in shown}
    letters: dict[Snippet, str] = {}
    for column, context in enumerate(contexts.by_option):
        if context is not None and column != chosen:
            for each in context.snippets:
                letters[each] = letters.get(each, "") + LETTERS[column]
    return tuple(_view(each, of) for each, of in letters.items() if (each.title, each.text) not in known)


def _view(snippet: Snippet, options: str) -> SnippetView:
    return SnippetView(snippet.title, snippet.text, snippet.score, options)


def best_sentence(texts: Sequence[str], prompt: str, option: str) -> tuple[int, int, int] | None:
    """Which text, and from where to where: the sentence that shares most with prompt and option.

    By stems, without stop words: the share of the prompt's that the sentence contains, plus the share of
    those that the option adds to it. The first of equals counts; a sentence that shares nothing supports
    nothing. It is a reading aid: rankers do not say which sentence decided.
    """
    about = set(stems(prompt))
    added = set(stems(option)) - about
    best, found = 0.0, None
    for number, text in enumerate(texts):
        after = 0
        for sentence in sentences(text):
            start = text.find(sentence, after)
            if start < 0:
                continue
            after = start + len(sentence)
            held = set(stems(sentence))
            score = len(held & about) / max(len(about), 1) + len(held & added) / max(len(added), 1)
            if score > best:
                best, found = score, (number, start, after)
    return found
