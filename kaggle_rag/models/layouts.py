"""How a question, its options and a context are laid out as text, and cut to what a backbone reads.

Only the context is ever cut, as text: the tokenizer then keeps its own rules (special tokens, spaces,
merges) for what stands around it.
"""

from __future__ import annotations

import dataclasses
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kaggle_rag.errors import ConfigError
from kaggle_rag.questions import LETTERS

_FIELDS = ("context", "prompt", "option", "options", "letter")


@dataclasses.dataclass(frozen=True)
class Layout:
    """A text with fields such as ``{context}``, in up to three parts.

    ``first`` and ``second`` are the tokenizer's two segments (``second`` may be empty); ``answer`` is
    what a language model continues with, where options are scored by likelihood.
    """

    first: str
    second: str = ""
    answer: str = ""

    def __post_init__(self) -> None:
        try:
            parts = [*string.Formatter().parse(self.first + self.second)]
            answer = [*string.Formatter().parse(self.answer)]
        except ValueError as error:
            raise ConfigError(f"the template is not readable: {error}", where="template") from error
        names = {name for _, name, _, _ in parts if name is not None}
        said = {name for _, name, _, _ in answer if name is not None}
        if unknown := sorted((names | said) - set(_FIELDS)):
            raise ConfigError(
                f"the template has a field {{{unknown[0]}}}",
                where="template",
                expected="one of " + ", ".join(f"{{{name}}}" for name in _FIELDS),
            )
        if "prompt" not in names:
            raise ConfigError("the template leaves out the question", where="template", expected="{prompt}")

    @property
    def literals(self) -> str:
        """What the template itself writes, its fields left out."""
        parts = string.Formatter().parse(self.first + self.second + self.answer)
        return "".join(literal for literal, *_ in parts)

    def filled(self, fields: Mapping[str, str]) -> tuple[str, str]:
        """Both segments; the answer stands at the end of the last one."""
        first, second, answer = (part.format_map(fields) for part in (self.first, self.second, self.answer))
        return (first, second + answer) if second else (first + answer, "")


# [CLS] context [SEP] question option [SEP]
PAIR = Layout("{context}", "{prompt} {option}")
# An option behind its question, without a context: that is embedded apart.
APART = Layout("{prompt} {option}")
# One option at a time, judged at the last token.
BINARY = Layout("{context}\n\nQuestion: {prompt}\nProposed answer: {option}\nIs the proposed answer right?")
# All options at once; a letter follows.
LETTER = Layout("{context}\n\nQuestion: {prompt}\n{options}\nAnswer:", answer=" {letter}")
# The option itself is what follows.
OPTION = Layout("{context}\n\nQuestion: {prompt}\nAnswer:", answer=" {option}")


class Written(NamedTuple):
    """One row for a model: ``ids`` as its tokenizer gives them, and which tokens are the answer's."""

    ids: dict[str, list[int]]
    is_answer: list[bool]


def listed(options: Sequence[str | None]) -> str:
    """``A. first`` and so on, a line each; absent options are left out and the letters stay."""
    return "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, options) if text is not None)


def _fields(prompt: str, options: Sequence[str | None], place: int) -> dict[str, str]:
    return {
        "context": "",
        "prompt": prompt.strip(),
        "options": listed(options),
        "option": (options[place] or "").strip(),
        "letter": LETTERS[place],
    }


def _special_tokens(tokenizer: Any) -> list[str]:
    """Every special token of a tokenizer, the longest first; some have no name such as eos_token."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return sorted({*added, *tokenizer.all_special_tokens}, key=len, reverse=True)


class Writer:
    """Fills a layout for one tokenizer, in at most ``max_tokens`` tokens."""

    def __init__(self, tokenizer: Any, layout: Layout, max_tokens: int) -> None:
        if not tokenizer.is_fast:
            raise ConfigError(
                "this tokenizer does not say where its tokens stand in the text",
                where=tokenizer.name_or_path,
                expected="a fast tokenizer (tokenizer.json)",
                cure="save it again by a current transformers",
            )
        # The last resort of a row that is too long keeps its end, where the answer stands.
        tokenizer.truncation_side = "left"
        # What a question holds is text: [SEP] in it must not end it. Special tokens that the template itself
        # writes stay what they are.
        special = _special_tokens(tokenizer)
        written = any(token in layout.literals for token in special)
        tokenizer.split_special_tokens = not written
        self._special = re.compile("|".join(map(re.escape, special))) if written else None
        self.tokenizer, self.layout, self.max_tokens = tokenizer, layout, max_tokens
        self.shortened = 0
        """Rows whose question lost words, because it was too long without a context too."""

    def __call__(self, context: str, prompt: str, options: Sequence[str | None], place: int) -> Written:
        """The row of option ``place``, with its answer.

        The context loses its end. Where question and option alone are too long the question loses its
        beginning (what is asked stands at its end), and then the options their ends: one long row of a
        hidden test set must not stop a submission.
        """
        return self._fitting(self.layout, context, prompt, options, place)

    def question(self, context: str, prompt: str, options: Sequence[str | None], place: int) -> Written:
        """The same row without its answer, for an encoder whose decoder gives that."""
        asking = dataclasses.replace(self.layout, answer="")
        return self._fitting(asking, context, prompt, options, place)

    def _fitting(
        self, layout: Layout, context: str, prompt: str, options: Sequence[str | None], place: int
    ) -> Written:
        options = [option and self._plain(option) for option in options]
        fields = _fields(self._plain(prompt), options, place)
        told = self._plain(context.strip())
        if found := self._with_room(layout, fields, "context", told, keep_start=True):
            return found
        self.shortened += 1
        bare = {**fields, "prompt": ""}
        found = self._with_room(layout, bare, "prompt", fields["prompt"], keep_start=False)
        return found or self._squeezed(layout, options, place)

    def _squeezed(self, layout: Layout, options: Sequence[str | None], place: int) -> Written:
        """Options cut to half their length, again and again; in the end only the end of the row is kept."""
        longest = max(len(option or "") for option in options)
        while longest > 1:
            longest //= 2
            short = [option and option.strip()[:longest] for option in options]
            found = self._write(layout, _fields("", short, place))
            if len(found.is_answer) <= self.max_tokens:
                return found
        short = [option and option.strip()[:1] for option in options]
        return self._write(layout, _fields("", short, place), truncation=True, max_length=self.max_tokens)

    def _plain(self, text: str) -> str:
        """The text with a space inside whatever a template's special tokens would make special in it too."""
        if self._special is None:
            return text
        return self._special.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def alone(self, text: str) -> dict[str, list[int]]:
        """A row of one text; what is too long loses its end."""
        text = self._plain(text)
        ids = dict(self.tokenizer(text, verbose=False))
        if len(ids["input_ids"]) > self.max_tokens:
            spans = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            special = len(ids["input_ids"]) - len(spans["input_ids"])
            kept = max(1, self.max_tokens - special)
            return self.alone(text[: spans["offset_mapping"][kept - 1][1]])
        return ids

    def answer(self, prompt: str, options: Sequence[str | None], place: int) -> str:
        """What follows the row of option ``place``, for a decoder that reads the row elsewhere."""
        plain = [option and self._plain(option) for option in options]
        return self.layout.answer.format_map(_fields(self._plain(prompt), plain, place))

    def _with_room(
        self, layout: Layout, fields: Mapping[str, str], name: str, text: str, *, keep_start: bool
    ) -> Written | None:
        """The row with as much of a field's text as fits; ``None`` when it is too long without it."""
        bare = self._write(layout, fields)
        room = self.max_tokens - len(bare.is_answer)
        if room < 0:
            return None
        spans = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        spans = spans["offset_mapping"]
        kept = min(room, len(spans))
        while kept > 0:
            piece = text[: spans[kept - 1][1]] if keep_start else text[spans[-kept][0] :]
            found = self._write(layout, {**fields, name: piece})
            over = len(found.is_answer) - self.max_tokens
            if over <= 0:
                return found
            # Tokens at a seam do not always merge as they do alone.
            kept -= over
        return bare

    def _write(self, layout: Layout, fields: Mapping[str, str], **cut: Any) -> Written:
        first, second = layout.filled(fields)
        found = self.tokenizer(
            first, second or None, return_offsets_mapping=True, return_special_tokens_mask=True,
            verbose=False, **cut,
        )  # fmt: skip
        spans, special = found.pop("offset_mapping"), found.pop("special_tokens_mask")
        answer = len(layout.answer.format_map(fields))
        begins = len(second or first) - answer
        is_answer = [
            bool(answer) and not mark and start >= begins and end > start
            for (start, end), mark in zip(spans, special)
        ]
        return Written(dict(found), is_answer)
