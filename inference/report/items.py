"""A question as HTML: its options, how likely each ranker finds them, and the evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from inference.report.data import COMPARED, FLAGS, OptionView, QuestionView, ReportData, SnippetView

# Characters shown of a prompt, of an option, and of a snippet before the rest is folded away.
_PROMPT, _OPTION, _SNIPPET, _HEADING = 3000, 600, 320, 110
# Bytes of all questions, and of the evidence of one: a page of 1,500 questions stays under 10 MB.
_PAGE, MOST = 9_400_000, 40_000


def questions_html(data: ReportData) -> str:
    """All questions, with as much of their evidence as the page has room for."""
    names = [data.mix.name, *(each.name for each in data.rankers[: data.single])]
    questions = list(enumerate(data.questions))
    bare = sum(len(question_html(number, each, names, 0).encode()) for number, each in questions)
    budget = min(MOST, max(0, _PAGE - bare) // max(len(questions), 1))
    return "".join(question_html(number, each, names, budget) for number, each in questions)


def question_html(
    number: int, question: QuestionView, names: Sequence[str], budget: int = MOST, *, unfolded: bool = False
) -> str:
    """One question; its attributes are what the script sorts and filters by.

    Parameters
    ----------
    names : of the mix, and of the rankers of `OptionView.by_ranker`.
    budget : bytes for its evidence.
    """
    names_of = {**FLAGS, **COMPARED}
    flags = "".join(f"<span class=flag>{escape(names_of[flag][0])}</span> " for flag in question.flags)
    wrongness = -1.0 if question.wrongness is None else question.wrongness
    heading = escape(_cut(question.prompt, _HEADING))
    return (
        f'<details class=q id=q{number} data-n={number} data-id="{escape(question.id)}" '
        f"data-margin={question.margin:.4f} data-wrong={wrongness:.4f} "
        f'data-flags="{" ".join(question.flags)}"{" open" if unfolded else ""}>'
        f"<summary><h3 dir=auto><span class=id>{escape(question.id)}</span> {heading}</h3> {flags}"
        "</summary>\n"
        f"<p class=prompt dir=auto>{_long(question.prompt, _PROMPT)}</p>\n"
        f"{_options(question, names)}<p>{_verdict(question)}</p>\n"
        f"{_evidence(question, budget)}</details>\n"
    )


def _verdict(question: QuestionView) -> str:
    text = f"Margin {question.margin:.3f}."
    if question.rank is not None:
        points = 1 / question.rank if question.rank <= 3 else 0.0
        text += f" The right option is ranked {question.rank}: AP@3 {points:.3f}."
    return text


def _options(question: QuestionView, names: Sequence[str]) -> str:
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in names)
    columns = list(zip(*((each.probability, *each.by_ranker) for each in question.options)))
    best = [max((value for value in column if value is not None), default=None) for column in columns]
    rows = "".join(_option(each, best) for each in question.options)
    return (
        f'<div class=scroll tabindex=0 role=group aria-label="Options of {escape(question.id)}"><table>'
        f"<thead><tr><th scope=col>option</th>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>\n"
    )


def _option(option: OptionView, best: list[float | None]) -> str:
    marks = "".join(
        f" <span class={name}>{text}</span>"
        for name, text, holds in (("right", "✓ right", option.right), ("chosen", "▸ chosen", option.chosen))
        if holds
    )
    cells = "".join(_cell(*pair) for pair in zip((option.probability, *option.by_ranker), best))
    text = f"<b>{option.letter}</b> {_long(option.text, _OPTION)}{marks}"
    return f"<tr><th scope=row dir=auto>{text}</th>{cells}</tr>\n"


def _cell(value: float | None, best: float | None) -> str:
    if value is None:
        return "<td>–</td>"
    number = f"<b>{value:.3f}</b>" if value == best else f"{value:.3f}"
    bar = f"<svg class=bar aria-hidden=true><rect width={100 * value:.0f}% /></svg>"
    return f"<td>{bar}{number}</td>"


def _evidence(question: QuestionView, budget: int) -> str:
    if not question.snippets:
        return ""
    shown = list(_within(question.snippets, budget))
    left_out = len(question.snippets) - len(shown)
    more = f"<p>{left_out:,} more snippets are in the contexts file.</p>\n" if left_out else ""
    return f"<h4>Evidence</h4><ol class=evidence>{''.join(shown)}</ol>\n{more}"


def _within(snippets: tuple[SnippetView, ...], budget: int) -> Iterator[str]:
    """Snippets in their order as far as the budget of bytes goes, and the marked one in any case."""
    made = [(_snippet(each), each.marked) for each in snippets]
    left = budget - sum(len(text.encode()) for text, marked in made if marked)
    for text, marked in made:
        size = 0 if marked else len(text.encode())
        if marked or size <= left:
            left -= size
            yield text


def _snippet(snippet: SnippetView) -> str:
    about = f" <span class=of>for {', '.join(snippet.options)}</span>" if snippet.options else ""
    score = "" if snippet.score is None else f" <span class=score>score {snippet.score:.3f}</span>"
    title = f"<cite>{escape(snippet.title)}</cite>" if snippet.title else ""
    return f"<li dir=auto>{title}{score}{about} {_text(snippet)}</li>\n"


def _text(snippet: SnippetView) -> str:
    text, marked = snippet.text, snippet.marked
    if marked is None:
        return _folded(text, _SNIPPET)
    start, end = marked
    before, sentence, after = text[:start], text[start:end], text[end:]
    # What leads to the sentence stays next to it; what is far before is left out.
    if len(before) > _SNIPPET:
        before = "… " + before[-_SNIPPET:].partition(" ")[2]
    return f"{escape(before)}<mark>{_long(sentence, _PROMPT)}</mark>{_folded(after, _SNIPPET)}"


def _folded(text: str, most: int) -> str:
    """The beginning of a text, the rest in a part that opens."""
    if len(text) <= most + 40:
        return escape(text)
    head = text[:most].rpartition(" ")[0] or text[:most]
    rest = text[len(head) :]
    return f"{escape(head)}… <details><summary>more</summary>{_long(rest, MOST)}</details>"


def _long(text: str, most: int) -> str:
    """A text, or its beginning and how much is left out."""
    if len(text) <= most:
        return escape(text)
    return f"{escape(text[:most])}… <i>({len(text) - most:,} more characters)</i>"


def _cut(text: str, most: int) -> str:
    plain = " ".join(text[: 4 * most].split())
    return plain if len(plain) <= most and len(text) <= 4 * most else plain[:most].rstrip() + "…"
