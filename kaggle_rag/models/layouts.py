"""How a question, its options and a context are laid out as text, and cut to what a backbone reads.

In the kit's own layouts only the context is ever cut, as text: the tokenizer then keeps its own rules
(special tokens, spaces, merges) for what stands around it. Layouts of other trainings are cut as their
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
# What is cut where a row is too long, and the tokenizer's own name for it; of the kit's way there is none.
CUTS = {"context": "", "first": "only_first", "second": "only_second", "longest": "longest_first"}


@dataclasses.dataclass(frozen=True)
class Layout:
    """A text with fields such as ``{context}``, in up to three parts.

    ``first`` and ``second`` are the tokenizer's two segments (``second`` may be empty); ``answer`` is
    what a language model continues with, where options are scored by likelihood.

    ``add_special_tokens`` is off where the texts spell them out. ``cut`` is a key of `CUTS`: the end of
    the context, or of a segment as ``truncation=`` of a tokenizer cuts it. ``context_chars`` cuts a
    context to so many characters before that (0: not at all).
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

# The layout of the form itself, by name.
OWN = "own"
# Layouts of public trainings for the LLM Science Exam, for checkpoints that were trained by them.
PRESETS: dict[str, Layout] = {
    # kaggle.com/code/cdeotte/how-to-train-open-book-model-part-1 (and most notebooks that copied it)
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
_OVER = {field.name for field in dataclasses.fields(Layout)}


def layout_of(default: Layout, template: str | Mapping[str, Any] | None) -> Layout:
    """The layout of a name (a key of `PRESETS`, or `OWN`), or the default with other fields of `Layout`.

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
    keys = "one of " + ", ".join(sorted(_OVER))
    if not isinstance(template, Mapping):
        raise ConfigError("this is no layout", where="template", expected="a name, or a mapping of " + keys)
    if unknown := sorted(map(str, set(template) - _OVER)):
        raise ConfigError(f"a template has no key {unknown[0]!r}", where="template", expected=keys)
    for name in ("first", "second", "answer"):
        if not isinstance(template.get(name, ""), str):
            raise ConfigError("this is not a text", where=f"template.{name}", expected="such as {context}")
    # A template of its own says nothing about the default's second segment or answer by leaving it out.
    return dataclasses.replace(default, **template)


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
                "this tokenizer does not say where its tokens stand in the text",
                where=tokenizer.name_or_path,
                expected="a fast tokenizer (tokenizer.json)",
                cure="python -m training convert FOLDER OUT writes one",
            )
        self.tokenizer, self.layout, self.max_tokens = tokenizer, layout, max_tokens
        self.shortened = 0
        """Rows whose question lost words, because it was too long without a context too."""
        self._special = special_ids(tokenizer)
        # The same context stands in the row of every option.
        self._plain = functools.lru_cache(maxsize=64)(self._without_special)

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
        context, prompt = self._text(context[: layout.context_chars or None]), self._text(prompt)
        options = self._texts(options)
        fields = _fields(prompt, options, place)
        found = (
            self._with_room(layout, fields, "context", context, keep_start=True)
            if layout.cut == "context"
            else self._cut(layout, {**fields, "context": context})
        )
        if found:
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
            short = [option and option[:longest] for option in options]
            found = self._write(layout, _fields("", short, place))
            if len(found.is_answer) <= self.max_tokens:
                return found
        short = [option and option[:1] for option in options]
        # The last resort keeps the row's end, where the answer stands.
        fields = _fields("", short, place)
        return self._write(layout, fields, "left", truncation=True, max_length=self.max_tokens)

    def _cut(self, layout: Layout, fields: Mapping[str, str]) -> Written | None:
        """The row as the tokenizer cuts it; ``None`` where that would leave nothing of a segment."""
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
        """A user's text, in which no token with a meaning of its own is read.

        The kit's own layouts leave out the space around it; those of other trainings kept it.
        """
        return self._plain(text.strip() if self.layout.cut == "context" else text)

    def _texts(self, options: Sequence[str | None]) -> list[str | None]:
        return [option and self._text(option) for option in options]

    def _without_special(self, text: str) -> str:
        """``text`` with a space behind the first sign of each special token that it spells out.

        ``split_special_tokens`` does not do: a unigram model whose vocabulary holds ``[SEP]`` reads it from
        plain text all the same.
        """
        # Once is enough for all tokenizers but those that drop spaces.
        for _ in range(_BREAKS):
            found = self._tokens(text)
            spans = [
                (start, text[start:end])
                for token, (start, end) in zip(found["input_ids"], found["offset_mapping"])
                if token in self._special or (token == self.tokenizer.unk_token_id
                                              and text[start:end].strip() == self.tokenizer.unk_token)
            ]  # fmt: skip
            # A special token of one sign cannot be told from that sign.
            breaks = [
                start + len(span) - len(span.lstrip()) + 1 for start, span in spans if len(span.strip()) > 1
            ]
            if not breaks:
                break
            for place in sorted(breaks, reverse=True):
                text = f"{text[:place]} {text[place:]}"
        return text

    def alone(self, text: str) -> dict[str, list[int]]:
        """A row of one text; what is too long loses its end."""
        text = self._plain(text)
        ids = dict(self.tokenizer(text, verbose=False))
        if len(ids["input_ids"]) > self.max_tokens:
            spans = self._tokens(text)
            special = len(ids["input_ids"]) - len(spans["input_ids"])
            kept = max(1, self.max_tokens - special)
            return self.alone(text[: spans["offset_mapping"][kept - 1][1]])
        return ids

    def answer(self, prompt: str, options: Sequence[str | None], place: int) -> str:
        """What follows the row of option ``place``, for a decoder that reads the row elsewhere."""
        return self.layout.answer.format_map(_fields(self._text(prompt), self._texts(options), place))

    def _with_room(
        self, layout: Layout, fields: Mapping[str, str], name: str, text: str, *, keep_start: bool
    ) -> Written | None:
        """The row with as much of a field's text as fits; ``None`` when it is too long without it."""
        bare = self._write(layout, fields)
        room = self.max_tokens - len(bare.is_answer)
        if room < 0:
            return None
        spans = self._tokens(text)["offset_mapping"]
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

    def _write(self, layout: Layout, fields: Mapping[str, str], side: str = "right", **cut: Any) -> Written:
        first, second = layout.filled(fields)
        self.tokenizer.truncation_side = side
        found = self.tokenizer(
            first, second or None, return_offsets_mapping=True, return_special_tokens_mask=True,
            add_special_tokens=layout.add_special_tokens, verbose=False, **cut,
        )  # fmt: skip
        spans, special = found.pop("offset_mapping"), found.pop("special_tokens_mask")
        answer = len(layout.answer.format_map(fields))
        begins = len(second or first) - answer
        is_answer = [
            bool(answer) and not mark and start >= begins and end > start
            for (start, end), mark in zip(spans, special)
        ]
        return Written(dict(found), is_answer)


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of the tokens that mean something else than their letters, without that of unknown words."""
    marked = {place for place, token in tokenizer.added_tokens_decoder.items() if token.special}
    return (marked | set(tokenizer.all_special_ids)) - {tokenizer.unk_token_id}
