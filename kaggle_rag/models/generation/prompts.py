"""From a question and its context to the prompt that a model continues, within the room of the model."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Sequence
from typing import Any, NamedTuple

from kaggle_rag.config import GenerationSettings
from kaggle_rag.data.contexts import QuestionContexts
from kaggle_rag.data.questions import Question
from kaggle_rag.models.answering.forms import DECODER
from kaggle_rag.models.answering.item import Item
from kaggle_rag.models.layouts import OPTION, Layout, layout_of
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.errors import ConfigError, InputError
from kaggle_rag.runtime.words import counted

OPEN = dataclasses.replace(OPTION, answer="")
CLOSED = Layout("Question: {prompt}\nAnswer:")
# What a prompt would have to know before it is answered.
_ANSWERS = ("option", "letter")
# Longest prompt by default, if the model has room for it.
MAX_TOKENS = 1024
# Stands for the prompt in a chat template that is filled in for the first time.
_HERE = "kaggle-rag-prompt"


class Prompt(NamedTuple):
    """The tokens that a model continues, and what they hold of the context.

    ``context`` : ``None`` if there is none, or what is held of it is unknown.
    """

    ids: list[int]
    context: str | None


def prompt_layout(settings: GenerationSettings, tokenizer: Any, *, reads: bool, options: bool) -> Layout:
    """The layout of the prompts, in the tokenizer's chat template if that is asked for.

    Parameters
    ----------
    reads : whether there are contexts.
    options : whether the questions have options.

    Raises
    ------
    ConfigError : a template that cannot be asked, or no chat template.
    """
    layout = layout_of(OPEN if reads else CLOSED, settings.template)
    text = layout.first + layout.second
    names = {name for _, name, _, _ in string.Formatter().parse(text) if name}
    if layout.answer or (known := sorted(names & set(_ANSWERS))):
        raise ConfigError(
            "a template with an answer" if layout.answer else f"the template names {{{known[0]}}}",
            where="generate.template", expected="{context}, {prompt} or {options}",
            cure="leave out what the model is to answer",
        )  # fmt: skip
    if "options" in names and not options:
        raise ConfigError(
            "the template lists {options}, and the questions have none", where="generate.template",
            cure="leave {options} out, or ask questions with columns A, B, ...",
        )  # fmt: skip
    if reads and "context" not in names:
        raise ConfigError(
            "the template leaves out the context", where="generate.template", expected="{context}",
            cure="name it, or answer --without-contexts",
        )  # fmt: skip
    return _in_chat(layout, tokenizer) if settings.chat else layout


def _in_chat(layout: Layout, tokenizer: Any) -> Layout:
    """The layout as what a user says in the tokenizer's chat template, which spells its special tokens."""
    if not tokenizer.chat_template:
        raise ConfigError(
            "this tokenizer has no chat template", where=f"generate.chat: {tokenizer.name_or_path}",
            cure="leave chat out: the model continues the prompt itself",
        )  # fmt: skip
    if layout.second:
        raise ConfigError("a chat has no second segment", where="generate.template", expected="first alone")
    said = [{"role": "user", "content": _HERE}]
    whole = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    before, _, after = (part.replace("{", "{{").replace("}", "}}") for part in whole.partition(_HERE))
    return dataclasses.replace(layout, first=before + layout.first + after, add_special_tokens=False)


def room_of(settings: GenerationSettings, positions: int | None, *, family: str) -> int:
    """The longest prompt, in tokens, that leaves room for the answer.

    Parameters
    ----------
    positions : how many the model has; ``None`` if they are relative. A decoder's answer takes its own.

    Raises
    ------
    ConfigError : prompt and answer together are longer than the model.
    """
    taken = settings.max_new_tokens if family == DECODER else 0
    longest = max((settings.max_tokens or 1) + taken, settings.max_new_tokens)
    if positions is None or longest <= positions:
        return settings.max_tokens or min(MAX_TOKENS, (positions or MAX_TOKENS + taken) - taken)
    wanted = f"max_tokens {settings.max_tokens:,}" if settings.max_tokens else "a prompt"
    raise ConfigError(
        f"{wanted} and max_new_tokens {settings.max_new_tokens:,} do not fit into the {positions:,} "
        "positions of the model",
        where="generate", cure="lower max_new_tokens (--max-new-tokens) or max_tokens (--max-tokens)",
    )  # fmt: skip


class PromptWriter:
    """Writes prompts of at most ``max_tokens`` tokens; a context loses its end, a question nothing."""

    def __init__(
        self, tokenizer: Any, layout: Layout, max_tokens: int, *, family: str, snippets: int
    ) -> None:
        self._writer = Writer(tokenizer, layout, max_tokens)
        self._snippets = snippets
        # A decoder would go on behind the end of its text.
        self._no_end = tokenizer.eos_token_id if family == DECODER and layout.add_special_tokens else None

    def __call__(self, question: Question, contexts: QuestionContexts | None, where: str) -> Prompt:
        """The prompt of a question; raise ``InputError`` if it is too long even without its context."""
        item = _item(question, contexts, self._snippets)
        before = self._writer.shortened
        context = item.shared_context()
        row = self._writer.question(context, item.prompt, item.options, 0)
        if self._writer.shortened > before:
            raise InputError(
                f"the question alone is longer than a prompt of {counted(self._writer.max_tokens, 'token')}",
                where=where, expected="a question that leaves room for a context",
                cure="shorten it, or raise max_tokens (--max-tokens) if the model has room",
            )  # fmt: skip
        ids = row.ids["input_ids"]
        if self._no_end is not None and ids[-1] == self._no_end:
            ids = ids[:-1]
        return Prompt(ids, row.context if context else None)

    def all(
        self, questions: Sequence[Question], contexts: Sequence[QuestionContexts | None], where: str
    ) -> list[Prompt]:
        """The prompts of all questions of the file ``where``."""
        pairs = zip(questions, contexts, strict=True)
        return [self(*pair, f"{where}, question {number}") for number, pair in enumerate(pairs, 1)]


def _item(question: Question, contexts: QuestionContexts | None, snippets: int) -> Item:
    """The question as a model reads it; one without options has a single absent one."""
    if question.options:
        return Item.of(question, contexts, snippets)
    found = contexts.shared.snippets if contexts and contexts.shared else ()
    return Item(question.prompt, (None,), (found[: snippets or None],), question.answer)
