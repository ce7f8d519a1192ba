"""How a question, its options and a context are laid out as text: by the kit, or as other trainings did."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Mapping
from typing import Any

from kaggle_rag.runtime.errors import ConfigError

_FIELDS = ("context", "prompt", "option", "options", "letter")
# What is cut if a row is too long, and the tokenizer's name for it; the kit's own way has none.
CUTS = {"context": "", "first": "only_first", "second": "only_second", "longest": "longest_first"}


def fields_of(text: str) -> set[str]:
    """The fields of a part of a layout."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


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
            names, in_answer = fields_of(self.first + self.second), fields_of(self.answer)
        except ValueError as error:
            raise ConfigError(f"the template cannot be parsed: {error}", where="template") from error
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
    ConfigError : no such preset, no such field, a value that does not fit, or no answer in its place where
        the default scores one.
    """
    layout = _named(default, template)
    for name in fields_of(default.answer) - fields_of(layout.answer):
        raise ConfigError(
            f"this form scores what follows the row, and the template lets no {{{name}}} follow",
            where="template.answer", expected=f"an answer such as {default.answer!r}",
            cure="give the template as texts, whose answer is then that of the form; or take another form",
        )  # fmt: skip
    return layout


def _named(default: Layout, template: str | Mapping[str, Any] | None) -> Layout:
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
