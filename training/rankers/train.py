"""Train a ranker: questions, contexts and a backbone in, a sealed folder of weights out."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation import learnt
from kaggle_rag.evaluation.data_maps import FILE, write_data_map
from kaggle_rag.evaluation.fold_table import articles_of
from kaggle_rag.models.answering.forms import DECODER, ENCODER, ENCODER_DECODER
from kaggle_rag.models.answering.marginal import MarginalSequence
from kaggle_rag.models.card import RankerCard
from kaggle_rag.models.loading import Backbone, family_in
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import ConfigError, show_size
from kaggle_rag.runtime.limits import Usage, measured, release
from kaggle_rag.runtime.processes import is_first, processes
from kaggle_rag.runtime.words import counted
from training.loop.loop import train
from training.loop.run_folder import Run, require_room
from training.loop.trainer import seconds_per_step, show
from training.rankers.dataset import EpochQuestions, RankerDataset
from training.rankers.harder import Changes
from training.rankers.preparing import prepared
from training.rankers.settings import RankerRun
from training.rankers.splits import split_questions
from training.rankers.teacher_vectors import forecast_teacher, with_teacher
from training.rankers.trainer import RankerTrainer, make_ranker_trainer

# The family of backbones that each command trains.
FAMILIES = {"multiple-choice": ENCODER, "causal": DECODER, "seq2seq": ENCODER_DECODER}


def train_ranker(command: str, settings: RankerRun) -> dict[str, Any]:
    """Train, or resume training, and return the run's record.

    Raises
    ------
    KitError : for any fault in the settings, files or folders, before training starts.
    """
    require_family(command, settings.model)
    run = Run(command, settings)
    if record := run.finished():
        return record
    training, held = split_questions(settings)
    with run.begun() as work:
        say(f"{counted(len(training), 'question')} to train on, {len(held):,} held out")
        training = with_teacher(settings, training, work)
        start = time.perf_counter()
        trainer, before = _fitted(settings, training, held, work, run)
        if len(held) and isinstance(trainer.backbone.form, MarginalSequence):
            trainer.fit_mixing()
        result = {
            "before": before,
            "after": trainer.held_out_metrics() if held else {},
            "steps": trainer.state.global_step,
            "best step": trainer.state.best_global_step or trainer.state.global_step,
            "seconds": round(time.perf_counter() - start, 1),
            "batch": trainer.settings.batch,
            "accumulate": trainer.settings.accumulate,
        }
        marks = [*learnt.marks(training.questions), *learnt.marks(held.questions)]
        return run.finish(lambda folder: save(trainer, folder, training.questions), result, marks)


def require_family(command: str, model: str) -> None:
    """Raise ``ConfigError`` that names the right command if the backbone belongs to another family.

    Every other program that trains, such as a cross-validation, takes any family.
    """
    wanted = FAMILIES.get(command)
    if wanted and (family := family_in(model)) != wanted:
        fitting = next(name for name, trained in FAMILIES.items() if trained == family)
        raise ConfigError(
            f"{command} trains backbones of the family {wanted}, but this one is of the family {family}",
            where=model,
            cure=f"python -m training {fitting}",
        )


def dry_run(settings: RankerRun) -> dict[str, Any]:
    """Estimate a run from one batch and one evaluation; no weight changes, nothing is written."""
    settings = settings.model_copy(update={"report_to": "none"})
    training, held = split_questions(settings)
    training = forecast_teacher(settings, training)
    set_seed(settings.seed)
    backbone, card = prepared(settings)
    with tempfile.TemporaryDirectory() as folder, measured("dry run") as usage:
        trainer = _trainer(settings, backbone, card, training, held, Path(folder))
        # In mixed precision, as a training prepares it.
        trainer.accelerator.prepare_model(backbone.model, evaluation_mode=True)
        start = time.perf_counter()
        before = trainer.held_out_metrics() if held else {}
        evaluating = time.perf_counter() - start
        batch = seconds_per_step(trainer)
        batches = len(trainer.get_train_dataloader())
    steps = math.ceil(settings.epochs * math.ceil(batches / settings.accumulate))
    evaluations = settings.epochs * settings.evaluations + 1 if held else 0
    trained = sum(weight.numel() for weight in backbone.model.parameters() if weight.requires_grad)
    return {
        "dry run": True,
        "before": before,
        "steps": steps,
        "seconds": round(batch * batches * settings.epochs + evaluating * evaluations, 1),
        "notes": {
            "questions to learn from": len(training), "held out": len(held), "weights trained": trained,
        },
        "memory": _memory(usage, trained * _MOMENTS[settings.optimizer]),
    }


# Bytes of optimizer state per weight; a dry run takes no step.
_MOMENTS = {"adamw": 8, "paged-adamw": 8, "adamw-8bit": 2, "paged-adamw-8bit": 2, "adafactor": 0}


def _memory(usage: Usage, state: int) -> str:
    """Peak memory of one batch, plus the optimizer's state where the model is."""
    if usage.gpu_peak:
        return f"{show_size(usage.ram_peak)} RAM, {show_size(usage.gpu_peak + state)} GPU"
    return f"{show_size(usage.ram_peak + state)} RAM"


def _fitted(
    settings: RankerRun, training: RankerDataset, held: RankerDataset, work: Path, run: Run
) -> tuple[RankerTrainer, dict[str, float]]:
    """The trainer after its run, and the metrics before it; batches shrink when memory runs out."""
    before: dict[str, float] | None = None
    while True:
        set_seed(settings.seed)
        backbone, card = prepared(settings)
        trainer = _trainer(settings, backbone, card, training, held, work)
        require_room(work, backbone.model, adapter=bool(card.base), ema=bool(settings.ema))
        if before is None:
            before = _first_look(trainer, backbone)
        last = run.last_checkpoint()
        if last:
            say(f"resuming from {last.name}")
            if trainer.dynamics:
                trainer.dynamics.load(last)
        try:
            train(trainer, last)
            if trainer.average:
                trainer.average.put(trainer.average.average)
            return trainer, before
        except torch.OutOfMemoryError as error:
            _require_smaller(settings.batch, error)
        smaller = _smaller(settings.batch, settings.accumulate)
        settings = settings.model_copy(update=smaller)
        say("out of memory: continuing with batch {batch}, accumulate {accumulate}".format(**smaller))
        del trainer, backbone
        release()


def _first_look(trainer: RankerTrainer, backbone: Backbone) -> dict[str, float]:
    """Report new modules, and the metrics before training."""
    if backbone.new:
        say("new, to be trained from scratch: " + ", ".join(backbone.new))
    before = trainer.held_out_metrics() if trainer.held else {}
    if before:
        say("before: " + show(before))
    return before


def _smaller(batch: int, accumulate: int) -> dict[str, int]:
    """At most half the batch, with as many questions per step as before: checkpoints count steps."""
    total = batch * accumulate
    fits = next(size for size in range(batch // 2, 0, -1) if total % size == 0)
    return {"batch": fits, "accumulate": total // fits}


def _require_smaller(batch: int, error: Exception) -> None:
    """Raise ``ConfigError`` if the batch cannot be halved again."""
    if batch > 1 and processes() == 1:
        return
    raise ConfigError(
        f"a batch of {batch:,} does not fit in memory",
        where="batch",
        # Processes that continued with different batch sizes would wait for each other forever.
        cure=("halve batch and double accumulate, " if batch > 1 else "")
        + "lower max_tokens, set gradient_checkpointing: true, or peft.method: qlora",
    ) from error


def _trainer(
    settings: RankerRun,
    backbone: Backbone,
    card: RankerCard,
    training: RankerDataset,
    held: RankerDataset,
    work: Path,
) -> RankerTrainer:
    weaker = None
    if settings.weaker_contexts:
        contexts = read_contexts(settings.weaker_contexts, training.questions)
        weaker = RankerDataset(training.questions, contexts).items(settings.snippets, backbone.form)
    items = training.items(settings.snippets, backbone.form)
    articles = (articles_of(training.contexts) or ()) if settings.borrowed_options else ()
    questions = EpochQuestions(
        items, backbone.form, Writer(backbone.tokenizer, card.layout, card.max_tokens), _changes(settings),
        weaker=weaker, articles=articles, supervision=training.supervision, numbered=settings.data_map,
    )  # fmt: skip
    if settings.borrowed_options:
        say(f"questions: {questions.lent.borrowers():,} of {len(items):,} have others about their article")
    # The widest question shows at once whether the form can handle so many options.
    backbone.form.encode(questions.writer, max(questions.items, key=lambda item: len(item.options)))
    card = dataclasses.replace(card, options=1 + max(item.places[-1] for item in questions.items))
    held_out = held.items(settings.snippets, backbone.form)
    return make_ranker_trainer(settings, backbone, card, questions, held_out, work, say)


def _changes(settings: RankerRun) -> Changes:
    return Changes(
        seed=settings.seed, shuffle=settings.shuffle_options, drop_snippets=settings.drop_snippets,
        weaker=settings.weaker, drop_best=settings.drop_best, no_context=settings.no_context,
        none_of_above=settings.none_of_above, borrowed=settings.borrowed_options,
        rising=math.ceil(settings.epochs) if settings.rising else 0,
    )  # fmt: skip


def save(trainer: RankerTrainer, folder: Path, questions: Questions) -> None:
    """Save weights or adapter, tokenizer, the data map of the training's questions, and the sealing card."""
    recorded, trainer.average, trainer.dynamics = trainer.dynamics, None, None
    seen = recorded.total() if recorded else None
    trainer.save_model(str(folder))
    if is_first():
        if recorded and seen is not None:
            write_data_map(folder / FILE, questions, recorded.map(seen))
        trainer.backbone.tokenizer.save_pretrained(folder)
        trainer.card.write(folder)
