"""How a question, its options and a context are laid out as text, and cut to what a backbone reads.

In the kit's own layouts only the context is ever cut, as text: the tokenizer then applies its own rules
(special tokens, spaces, merges) to the text around it. Layouts of other trainings are cut as their
tokenizer cut them (`Layout.cut`).
"""

from __future__ import annotations

import dataclasses
import functools
import string
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kaggle_rag.data.questions import LETTERS
from kaggle_rag.runtime.errors import ConfigError

_BREAKS = 4
_FIELDS = ("context", "prompt", "option", "options", "letter")
# What is cut if a row is too long, and the tokenizer's name for it; the kit's own way has none.
CUTS = {"context": "", "first": "only_first", "second": "only_second", "longest": "longest_first"}


@dataclasses.dataclass(frozen=True)
class Layout:
    """A text with fields such as ``{context}``, in up to three parts.

    ``first`` and ``second`` are the tokenizer's two segments (``second`` may be empty); ``answer`` is
    what a language model continues with if options are scored by likelihood.

    ``add_special_tokens`` is off if the texts spell them out. ``cut`` is a key of `CUTS`: the end of
    the context, or of a segment as a tokenizer's ``truncation=`` cuts it. ``context_chars`` first cuts a
    context to that many characters (0: not at all).
    """

    first: str
    second: str = ""
    answer: str = ""
    add_special_tokens: bool = True
    cut: str = "context"
    context_chars: int = 0

    def __post_init__(self) -> None:
        self._check_cutting()
        try:
            parts = [*string.Formatter().parse(self.first + self.second)]
            answer = [*string.Formatter().parse(self.answer)]
        except ValueError as error:
            raise ConfigError(f"the template cannot be parsed: {error}", where="template") from error
        names = {name for _, name, _, _ in parts if name is not None}
        in_answer = {name for _, name, _, _ in answer if name is not None}
        if unknown := sorted((names | in_answer) - set(_FIELDS)):
            raise ConfigError(
                f"the template has an unknown field {{{unknown[0]}}}",
                where="template",
                expected="one of " + ", ".join(f"{{{name}}}" for name in _FIELDS),
            )
        if "prompt" not in names:
            raise ConfigError("the template leaves out the question", where="template", expected="{prompt}")

    def _check_cutting(self) -> None:
        if self.cut not in CUTS:
            raise ConfigError(
                f"no cut {self.cut!r}", where="template.cut", expected="one of " + ", ".join(CUTS)
            )
        if self.cut == "second" and not self.second:
            raise ConfigError("there is no second segment to cut", where="template.cut", expected="first")
        if not isinstance(self.add_special_tokens, bool):
            raise ConfigError(
                "not a yes or no", where="template.add_special_tokens", expected="true or false"
            )
        chars = self.context_chars
        if not isinstance(chars, int) or isinstance(chars, bool) or chars < 0:
            raise ConfigError(
                "not a number of characters", where="template.context_chars", expected="0 or more"
            )

    def filled(self, fields: Mapping[str, str]) -> tuple[str, str]:
        """Both segments; the answer is at the end of the last one."""
        first, second, answer = (part.format_map(fields) for part in (self.first, self.second, self.answer))
        return (first, second + answer) if second else (first + answer, "")


# [CLS] context [SEP] question option [SEP]
PAIR = Layout("{context}", "{prompt} {option}")
# An option after its question, without a context, which is embedded separately.
APART = Layout("{prompt} {option}")
# One option at a time, scored at the last token.
BINARY = Layout("{context}\n\nQuestion: {prompt}\nProposed answer: {option}\nIs the proposed answer right?")
# All options at once; a letter follows.
LETTER = Layout("{context}\n\nQuestion: {prompt}\n{options}\nAnswer:", answer=" {letter}")
# The option itself follows.
OPTION = Layout("{context}\n\nQuestion: {prompt}\nAnswer:", answer=" {option}")

# The name of the form's own layout.
OWN = "own"
# Layouts of public trainings for the LLM Science Exam, for checkpoints that were trained with them.
PRESETS: dict[str, Layout] = {
    # kaggle.com/code/cdeotte/how-to-train-open-book-model-part-1 (and most notebooks copied from it)
    "openbook": Layout(
        "[CLS] {context}", " #### {prompt} [SEP] {option} [SEP]", add_special_tokens=False, cut="first"
    ),
    # kaggle.com/code/mgoksu/0-807-sharing-my-trained-with-context-model
    "context-prompt": Layout("{context} #### {prompt}", "{option}", cut="longest", context_chars=1750),
    # kaggle.com/code/radek1/new-dataset-deberta-v3-large-training: a closed book
    "prompt-option": Layout("{prompt}", "{option}", cut="longest"),
    # huggingface.co/potsawee/longformer-large-4096-answering-race
    "race": Layout("{context} <s> {prompt}", "{option}", cut="longest"),
}
_FIELD_NAMES = {field.name for field in dataclasses.fields(Layout)}


def layout_of(default: Layout, template: str | Mapping[str, Any] | None) -> Layout:
    """The layout of a name (a key of `PRESETS`, or `OWN`), or the default with other values of its fields.

    Raises
    ------
    ConfigError : no such preset, no such field, or a value that does not fit.
    """
    if not template or template == OWN:
        return default
    if isinstance(template, str):
        if template not in PRESETS:
            raise ConfigError(
                f"no layout {template!r}",
                where="template",
                expected=", ".join([OWN, *PRESETS]) + ", or texts as {first: ..., second: ...}",
            )
        return PRESETS[template]
    keys = "one of " + ", ".join(sorted(_FIELD_NAMES))
    if not isinstance(template, Mapping):
        raise ConfigError("not a layout", where="template", expected="a name, or a mapping of " + keys)
    if unknown := sorted(map(str, set(template) - _FIELD_NAMES)):
        raise ConfigError(f"a template has no key {unknown[0]!r}", where="template", expected=keys)
    for name in ("first", "second", "answer"):
        if not isinstance(template.get(name, ""), str):
            raise ConfigError(
                "not a text", where=f"template.{name}",
                expected="such as {context}, in quotes: bare braces are a mapping in YAML",
                cure=f"on a command line: --set '...template.{name}=\"...\"'",
            )  # fmt: skip
    # A custom template that leaves out the second segment or the answer keeps the default's.
    return dataclasses.replace(default, **template)


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
        return row or self._squeezed(layout, options, place)

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
        if len(ids["input_ids"]) > self.max_tokens:
            spans = self._tokens(text)
            special = len(ids["input_ids"]) - len(spans["input_ids"])
            room = max(1, self.max_tokens - special)
            return self.alone(text[: spans["offset_mapping"][room - 1][1]])
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
        return bare

    def _write(self, layout: Layout, fields: Mapping[str, str], side: str = "right", **cut: Any) -> Written:
        first, second = layout.filled(fields)
        self.tokenizer.truncation_side = side
        encoded = self.tokenizer(
            first, second or None, return_offsets_mapping=True, return_special_tokens_mask=True,
            add_special_tokens=layout.add_special_tokens, verbose=False, **cut,
        )  # fmt: skip
        spans, special = encoded.pop("offset_mapping"), encoded.pop("special_tokens_mask")
        answer = len(layout.answer.format_map(fields))
        answer_start = len(second or first) - answer
        is_answer = [
            bool(answer) and not mark and start >= answer_start and end > start
            for (start, end), mark in zip(spans, special)
        ]
        return Written(dict(encoded), is_answer)


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of the tokens that mean something other than their text, except that of unknown words."""
    marked = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return (marked | set(tokenizer.all_special_ids)) - {tokenizer.unk_token_id}
