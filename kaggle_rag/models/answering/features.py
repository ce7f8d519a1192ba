"""One question to the rows of token ids that a form of answering needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from kaggle_rag.data.contexts import Snippet, joined
from kaggle_rag.models.layouts import Writer, Written
from kaggle_rag.runtime.errors import ConfigError

Feature = dict[str, Any]


class Item(NamedTuple):
    """A question as a model meets it: ``contexts`` one an option; ``answer`` a column, -1 unknown."""

    prompt: str
    options: tuple[str | None, ...]
    contexts: tuple[tuple[Snippet, ...], ...]
    answer: int

    @property
    def present(self) -> list[bool]:
        return [option is not None for option in self.options]

    @property
    def places(self) -> list[int]:
        """Columns of the options that are there."""
        return [place for place, option in enumerate(self.options) if option is not None]

    def context(self, place: int) -> str:
        """The text of an option's context."""
        return joined(self.contexts[place])

    def labelled(self, feature: Feature) -> Feature:
        """``feature`` with what every form needs to know beside its rows."""
        known = {"labels": self.answer} if self.answer >= 0 else {}
        return {**feature, "present": self.present, **known}


def a_row_an_option(writer: Writer, item: Item) -> Feature:
    """Rows that each hold one option, to be scored one by one."""
    return _rows(writer, item)


def _rows(write: Callable[..., Written], item: Item) -> Feature:
    rows = [write(item.context(p), item.prompt, item.options, p).ids for p in item.places]
    return item.labelled({key: [row[key] for row in rows] for key in rows[0]})


def an_answer_an_option(writer: Writer, item: Item) -> Feature:
    """Rows that end in an option, and which of their tokens are its own (``is_answer``)."""
    rows = [writer(item.context(p), item.prompt, item.options, p) for p in item.places]
    feature: Feature = {key: [row.ids[key] for row in rows] for key in rows[0].ids}
    return item.labelled({**feature, "is_answer": [row.is_answer for row in rows]})


def texts_apart(writer: Writer, item: Item) -> Feature:
    """Every text a row of its own: the question, the options, each behind the question, the snippets.

    Snippets are those of all options' contexts, each once; ``snippets`` says how many there are.
    """
    there = [(item.options[place] or "").strip() for place in item.places]
    texts = dict.fromkeys(str(snippet).strip() for place in item.places for snippet in item.contexts[place])
    snippets = [text for text in texts if text]
    both = [writer("", item.prompt, item.options, place).ids for place in item.places]
    rows = [
        writer.alone(item.prompt.strip()), *map(writer.alone, there), *both, *map(writer.alone, snippets)
    ]  # fmt: skip
    feature = {key: [row[key] for row in rows] for key in rows[0]}
    return item.labelled({**feature, "snippets": len(snippets)})


def a_letter(writer: Writer, item: Item) -> Feature:
    """One row up to where the letters part, and the token by which each goes on (``choices``)."""
    context = _shared(item)
    rows = [writer(context, item.prompt, item.options, p).ids["input_ids"] for p in item.places]
    shared = _shared_start(rows)
    choices = _parted([row[shared:] for row in rows])
    return item.labelled(
        {"input_ids": [rows[0][:shared]], "attention_mask": [[1] * shared], "choices": choices}
    )


def a_letter_to_decode(writer: Writer, item: Item) -> Feature:
    """The row an encoder reads, what the decoder has said (``said``), and each letter's token."""
    read = writer.question(_shared(item), item.prompt, item.options, item.places[0]).ids
    answers = [_answer(writer, item, place) for place in item.places]
    shared = _shared_start(answers)
    choices = _parted([answer[shared:] for answer in answers])
    return item.labelled(
        {**{k: [v] for k, v in read.items()}, "said": answers[0][:shared], "choices": choices}
    )


def an_option_to_decode(writer: Writer, item: Item) -> Feature:
    """A row an option for the encoder, and the option for the decoder (``answers``)."""
    feature = _rows(writer.question, item)
    return {**feature, "answers": [_answer(writer, item, place) for place in item.places]}


def _shared(item: Item) -> str:
    """The one context of a question; where every option has its own, their different snippets in turn."""
    if len(set(item.contexts)) == 1:
        return item.context(0)
    split = [item.contexts[place] for place in item.places]
    turns = [snippets[n] for n in range(max(map(len, split))) for snippets in split if n < len(snippets)]
    return "\n".join(dict.fromkeys(map(str, turns)))


def _answer(writer: Writer, item: Item, place: int) -> list[int]:
    text = writer.answer(item.prompt, item.options, place).strip()
    return list(writer.tokenizer(text_target=text, verbose=False)["input_ids"])


def _shared_start(rows: Sequence[Sequence[int]]) -> int:
    """Tokens by which all rows begin alike."""
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows)))


def _parted(rests: Sequence[Sequence[int]]) -> list[int]:
    choices = [rest[0] if rest else -1 for rest in rests]
    if -1 in choices or len(set(choices)) < len(choices):
        raise ConfigError(
            "the backbone's tokenizer does not tell the letters apart by one token",
            where="form: letters",
            cure="take form: options",
        )
    return choices
