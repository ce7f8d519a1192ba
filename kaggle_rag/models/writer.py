"""Rows for a model: a layout filled for one tokenizer, and cut to what a backbone reads.

In the kit's own layouts only the context is ever cut, as text: the tokenizer then applies its own rules
(special tokens, spaces, merges) to the text around it. Layouts of other trainings are cut as their
tokenizer cut them (`Layout.cut`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kaggle_rag.data.questions import LETTERS
from kaggle_rag.models.layouts import CUTS, Layout
from kaggle_rag.runtime.errors import ConfigError

_BREAKS = 4


class Written(NamedTuple):
    """One row for a model: ``ids`` from its tokenizer, and which tokens belong to the answer.

    ``context`` is what it holds of the context; ``None`` where the layout cuts rows in another way.
    """

    ids: dict[str, list[int]]
    is_answer: list[bool]
    context: str | None = None


def listed(options: Sequence[str | None]) -> str:
    """``A. first`` and so on, one per line; absent options are left out, and the letters do not shift."""
    return "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, options) if text is not None)


def _fields(prompt: str, options: Sequence[str | None], place: int) -> dict[str, str]:
    return {
        "context": "",
        "prompt": prompt,
        "options": listed(options),
        "option": options[place] or "",
        "letter": LETTERS[place],
    }


class Writer:
    """Fills a layout for one tokenizer, in at most ``max_tokens`` tokens."""

    def __init__(self, tokenizer: Any, layout: Layout, max_tokens: int) -> None:
        if not tokenizer.is_fast:
            raise ConfigError(
                "this tokenizer does not give the positions of its tokens in the text",
                where=tokenizer.name_or_path,
                expected="a fast tokenizer (tokenizer.json)",
                cure="python -m training convert FOLDER OUT writes one",
            )
        self.tokenizer, self.layout, self.max_tokens = tokenizer, layout, max_tokens
        self.shortened = 0
        """Rows whose question was cut, because it was too long even without a context."""
        self._special = special_ids(tokenizer)
        # The same context is in the row of every option.
        self._plain = functools.lru_cache(maxsize=64)(self._without_special)

    def __call__(self, context: str, prompt: str, options: Sequence[str | None], place: int) -> Written:
        """The row of option ``place``, with its answer.

        The context loses its end. If question and option alone are too long, the question loses its
        beginning (what is asked is at its end), and then the options their ends: one long row of a
        hidden test set must not stop a submission.
        """
        return self._fitting(self.layout, context, prompt, options, place)

    def rows(
        self, contexts: Sequence[str], prompt: str, options: Sequence[str | None], places: Sequence[int]
    ) -> list[Written]:
        """The rows of several options; one context that does not fit is cut alike in all of them.

        Options are then compared on the same evidence, and their rows begin with the same tokens.
        """
        rows = [self(context, prompt, options, place) for context, place in zip(contexts, places)]
        read = [row.context for row in rows]
        if len(set(contexts)) > 1 or None in read or len(set(read)) == 1:
            return rows
        shortest = min(map(str, read), key=len)
        return [
            row if row.context == shortest else self(shortest, prompt, options, place)
            for row, place in zip(rows, places)
        ]

    def question(self, context: str, prompt: str, options: Sequence[str | None], place: int) -> Written:
        """The same row without its answer, for an encoder whose decoder produces that."""
        unanswered = dataclasses.replace(self.layout, answer="")
        return self._fitting(unanswered, context, prompt, options, place)

    def _fitting(
        self, layout: Layout, context: str, prompt: str, options: Sequence[str | None], place: int
    ) -> Written:
        context, prompt = self._text(context[: layout.context_chars or None]), self._text(prompt)
        options = self._texts(options)
        fields = _fields(prompt, options, place)
        row = (
            self._with_room(layout, fields, "context", context, keep_start=True)
            if layout.cut == "context"
            else self._cut(layout, {**fields, "context": context})
        )
        if row:
            return row
        self.shortened += 1
        bare = {**fields, "prompt": ""}
        row = self._with_room(layout, bare, "prompt", fields["prompt"], keep_start=False)
        row = row or self._squeezed(layout, options, place)
        return row._replace(context="") if layout.cut == "context" else row

    def _squeezed(self, layout: Layout, options: Sequence[str | None], place: int) -> Written:
        """Halve the options repeatedly; as a last resort, keep only the end of the row."""
        longest = max(len(option or "") for option in options)
        while longest > 1:
            longest //= 2
            short = [option and option[:longest] for option in options]
            row = self._write(layout, _fields("", short, place))
            if len(row.is_answer) <= self.max_tokens:
                return row
        short = [option and option[:1] for option in options]
        # The end of the row holds the answer.
        fields = _fields("", short, place)
        return self._write(layout, fields, "left", truncation=True, max_length=self.max_tokens)

    def _cut(self, layout: Layout, fields: Mapping[str, str]) -> Written | None:
        """The row as the tokenizer cuts it; ``None`` if that would leave nothing of a segment."""
        whole = self._write(layout, fields)
        over = len(whole.is_answer) - self.max_tokens
        if over <= 0:
            return whole
        first, second = layout.filled(fields)
        lengths = [len(self._tokens(part)["input_ids"]) for part in (first, second)]
        room = {"first": lengths[0], "second": lengths[1], "longest": sum(lengths) - 1}[layout.cut]
        if room <= over:
            return None
        how = CUTS[layout.cut] if second else "longest_first"
        return self._write(layout, fields, truncation=how, max_length=self.max_tokens)

    def _tokens(self, text: str) -> Any:
        return self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)

    def _text(self, text: str) -> str:
        """A user's text, in which no special token is read.

        The kit's own layouts strip the space around it; those of other trainings kept it.
        """
        return self._plain(text.strip() if self.layout.cut == "context" else text)

    def _texts(self, options: Sequence[str | None]) -> list[str | None]:
        return [option and self._text(option) for option in options]

    def _without_special(self, text: str) -> str:
        """``text`` with a space after the first character of each special token that it spells out.

        ``split_special_tokens`` is not enough: a unigram model with ``[SEP]`` in its vocabulary still reads
        it from plain text.
        """
        # Once is enough for all tokenizers except those that drop spaces.
        for _ in range(_BREAKS):
            tokens = self._tokens(text)
            spans = [
                (start, text[start:end])
                for token, (start, end) in zip(tokens["input_ids"], tokens["offset_mapping"])
                if token in self._special or (token == self.tokenizer.unk_token_id
                                              and text[start:end].strip() == self.tokenizer.unk_token)
            ]  # fmt: skip
            # A special token of one character cannot be distinguished from that character.
            breaks = [
                start + len(span) - len(span.lstrip()) + 1 for start, span in spans if len(span.strip()) > 1
            ]
            if not breaks:
                break
            for position in sorted(breaks, reverse=True):
                text = f"{text[:position]} {text[position:]}"
        return text

    def alone(self, text: str) -> dict[str, list[int]]:
        """A row of one text, cut at its end if too long."""
        text = self._plain(text)
        ids = dict(self.tokenizer(text, verbose=False))
        ends = [end for _, end in self._tokens(text)["offset_mapping"]]
        count = len(ends)
        # A cut inside of a character, or at a seam, may leave more tokens than it counted.
        while count > 0 and (over := len(ids["input_ids"]) - self.max_tokens) > 0:
            count -= over
            ids = dict(self.tokenizer(text[: ends[count - 1]] if count > 0 else "", verbose=False))
        return ids

    def answer(self, prompt: str, options: Sequence[str | None], place: int) -> str:
        """What follows the row of option ``place``, for a decoder whose encoder reads the row."""
        return self.layout.answer.format_map(_fields(self._text(prompt), self._texts(options), place))

    def _with_room(
        self, layout: Layout, fields: Mapping[str, str], name: str, text: str, *, keep_start: bool
    ) -> Written | None:
        """The row with as much of a field's text as fits; ``None`` if it is too long even without it."""
        bare = self._write(layout, fields)
        room = self.max_tokens - len(bare.is_answer)
        if room < 0:
            return None
        spans = self._tokens(text)["offset_mapping"]
        count = min(room, len(spans))
        while count > 0:
            piece = text[: spans[count - 1][1]] if keep_start else text[spans[-count][0] :]
            row = self._write(layout, {**fields, name: piece})
            over = len(row.is_answer) - self.max_tokens
            if over <= 0:
                return row._replace(context=piece) if name == "context" else row
            # Tokens at a seam do not always merge as they do in isolation.
            count -= over
        return bare._replace(context="") if name == "context" else bare

    def _write(self, layout: Layout, fields: Mapping[str, str], side: str = "right", **cut: Any) -> Written:
        first, second = layout.filled(fields)
        self.tokenizer.truncation_side = side
        encoded = self.tokenizer(
            first, second or None, return_offsets_mapping=True, return_special_tokens_mask=True,
            add_special_tokens=layout.add_special_tokens, verbose=False, **cut,
        )  # fmt: skip
        spans, special = encoded.pop("offset_mapping"), encoded.pop("special_tokens_mask")
        answer = len(layout.answer.format_map(fields))
        answer_start, last = len(second or first) - answer, int(bool(second))
        # Offsets count from the beginning of each text: those of the first say nothing of the second.
        is_answer = [
            bool(answer) and not mark and text == last and start >= answer_start and end > start
            for (start, end), mark, text in zip(spans, special, encoded.sequence_ids())
        ]
        return Written(dict(encoded), is_answer)


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of the tokens that mean something other than their text, except that of unknown words."""
    marked = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return (marked | set(tokenizer.all_special_ids)) - {tokenizer.unk_token_id}
