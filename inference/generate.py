"""Answer questions in words: everything is checked and written as prompts before the model is loaded."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from inference.answer_batches import AnswerBatches
from inference.checks import given
from inference.outputs import check_out
from kaggle_rag.config import Solution
from kaggle_rag.data.answers import ENDINGS, AnswersFile
from kaggle_rag.data.contexts import Context, QuestionContexts, paragraphs_as_snippets, read_contexts
from kaggle_rag.data.open_questions import OpenQuestions
from kaggle_rag.data.questions import Questions, id_text
from kaggle_rag.models.devices import device_of, require_kind
from kaggle_rag.models.generation.decoding import seed_of
from kaggle_rag.models.generation.generator import Generator
from kaggle_rag.models.generation.prompts import Prompt, PromptWriter, prompt_layout
from kaggle_rag.runtime.console import progress, say
from kaggle_rag.runtime.errors import ConfigError, KitError
from kaggle_rag.runtime.faults import Gathered
from kaggle_rag.runtime.files import sha256
from kaggle_rag.runtime.limits import require, stage
from kaggle_rag.runtime.settings import at_fault
from kaggle_rag.runtime.words import counted

# What does not change an answer.
_IRRELEVANT = {"batch_tokens", "model"}


class Inputs(NamedTuple):
    """The questions that are asked, their contexts (``None``: none), and how many a limit leaves out."""

    questions: Questions
    contexts: list[QuestionContexts | None]
    left_out: int

    @property
    def reads(self) -> bool:
        return any(self.contexts)


class Ready(NamedTuple):
    """All that is known before the model's weights are read."""

    inputs: Inputs
    generator: Generator
    prompts: list[Prompt]

    def text(self) -> str:
        """What will be asked, in words."""
        lengths = sorted(len(prompt.ids) for prompt in self.prompts)
        return (
            f"{counted(len(lengths), 'prompt')} of {lengths[0]:,} to {lengths[-1]:,} tokens "
            f"(median {lengths[len(lengths) // 2]:,}, at most {self.generator.max_tokens:,})"
        )


def check(solution: Solution, *, without_contexts: bool = False, faults: Sequence[KitError] = ()) -> Ready:
    """Raise everything that would make `generate` fail, together with ``faults``; load and write nothing."""
    gathered = Gathered()
    gathered.faults += faults
    with gathered.check():
        given(solution, "questions", "out", faults=faults)
    with gathered.check():
        if solution.generate.model is None and not at_fault(faults, "generate.model"):
            raise ConfigError("no model is given", expected="--model FOLDER, or generate.model")
    if solution.out:
        with gathered.check():
            check_out(solution, set(ENDINGS))
    inputs = None
    if solution.questions:
        with gathered.check():
            inputs = _inputs(solution, without_contexts=without_contexts)
    generator = None
    if solution.generate.model:
        with gathered.check():
            require_kind(solution.device)
            generator = Generator(solution.generate, device_of(solution.device))
            require(generator.need(), ram=solution.limits.ram, gpu=solution.limits.gpu)
    prompts = None
    if inputs and generator:
        with gathered.check():
            prompts = _prompts(solution, inputs, generator)
    gathered.tell()
    assert inputs and generator and prompts
    return Ready(inputs, generator, prompts)


def generate(solution: Solution, *, without_contexts: bool = False) -> bool:
    """Write the answers to ``out``; return ``False`` if it already holds exactly these.

    Batches are stored next to ``out`` until all are complete, so that a killed run resumes. An answer does
    not depend on what is answered beside it, and so not on the batches either.
    """
    ready = check(solution, without_contexts=without_contexts)
    questions, generator = ready.inputs.questions, ready.generator
    assert solution.out
    batches = AnswerBatches(solution.out, questions, _key(solution, generator, without_contexts))
    if batches.is_done():
        return False
    with batches.work.claimed(), stage("generate", quiet=False):
        _answer(ready, batches, solution)
        batches.join()
    _tell(solution.out, len(questions), ready.inputs.left_out)
    return True


def _answer(ready: Ready, batches: AnswerBatches, solution: Solution) -> None:
    """Answer what no earlier run has, and store it batch by batch."""
    questions, done = ready.inputs.questions, batches.so_far()
    todo = [row for row in range(len(questions)) if row not in done]
    marks = questions.fingerprints()
    seeds = [seed_of(solution.generate, id_text(questions.ids[row]), marks[row]) for row in todo]
    with progress(len(questions), "generate", "answer", initial=len(done)) as bar:
        for places, answers in ready.generator.answers([ready.prompts[row] for row in todo], seeds):
            batches.add([todo[place] for place in places], answers)
            bar.update(len(places))


def _inputs(solution: Solution, *, without_contexts: bool) -> Inputs:
    """The files of a run."""
    assert solution.questions
    whole = OpenQuestions.read(solution.questions)
    questions = whole.first(solution.limit).questions
    left_out = len(whole) - len(questions)
    if without_contexts:
        if solution.contexts_file:
            raise ConfigError(
                "--contexts-file and --without-contexts contradict each other", cure="remove one of them"
            )
        return Inputs(questions, [None] * len(questions), left_out)
    if solution.contexts_file:
        return Inputs(questions, [*read_contexts(solution.contexts_file, questions)], left_out)
    if bare := sum(context is None for context in questions.contexts):
        raise ConfigError(
            f"{bare:,} of {counted(len(questions), 'question has', 'questions have')} no context",
            where=solution.questions,
            expected="--contexts-file, questions with a context, or --without-contexts",
            cure="find them: python -m inference contexts --questions Q --index I --out C"
            + ("" if questions.width else " --open"),
        )  # fmt: skip
    return Inputs(questions, [_own(str(context)) for context in questions.contexts], left_out)


def _own(context: str) -> QuestionContexts:
    """The context that a question brought."""
    return QuestionContexts(Context(paragraphs_as_snippets(context), ()), ())


def _prompts(solution: Solution, inputs: Inputs, generator: Generator) -> list[Prompt]:
    settings, tokenizer = solution.generate, generator.tokenizer
    layout = prompt_layout(settings, tokenizer, reads=inputs.reads, options=inputs.questions.width > 0)
    if tokenizer.chat_template and not settings.chat:
        say(f"note: {generator.folder.name} has a chat template, which is not used: --chat asks in it")
    write = PromptWriter(
        tokenizer, layout, generator.max_tokens, family=generator.family, snippets=settings.snippets
    )
    return write.all([*inputs.questions], inputs.contexts, str(solution.questions))


def _key(solution: Solution, generator: Generator, without_contexts: bool) -> dict[str, Any]:
    """What determines the answers, as plain JSON."""
    assert solution.questions
    settings = solution.generate.model_dump(mode="json", exclude=_IRRELEVANT)
    contexts = sha256(solution.contexts_file) if solution.contexts_file else None
    return {
        "questions": sha256(solution.questions), "limit": solution.limit, "contexts": contexts,
        "without_contexts": without_contexts, "model": _model_sum(generator.folder), "settings": settings,
        "precision": generator.precision, "max_tokens": generator.max_tokens,
    }  # fmt: skip


def _model_sum(folder: Path) -> dict[str, str]:
    """The checksums of all that a model's answers depend on."""
    from kaggle_rag.models.checkpoints import weights_sum

    # A chat template has a file of its own.
    files = sorted([*folder.glob("*.json"), *folder.glob("*.jinja")])
    told = {path.name: sha256(path) for path in files}
    return {**told, "weights": weights_sum(folder)}


def _tell(out: Path, asked: int, left_out: int) -> None:
    """How the answers ended, and whether some are missing."""
    ended = Counter(answer.ended for answer in AnswersFile.read(out).answers)
    if long := ended["length"]:
        say(
            f"note: {long:,} of {counted(asked, 'answer was', 'answers were')} cut at max_new_tokens: "
            "raise it, or give a stop text"
        )
    if left_out:
        print(
            f"PARTIAL: {out} answers only the first {asked:,} of {counted(asked + left_out, 'question')}",
            file=sys.stderr,
        )
