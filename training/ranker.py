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

from kaggle_rag.errors import ConfigError
from kaggle_rag.limits import release
from kaggle_rag.models.card import RankerCard
from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.models.devices import device_of, half_of
from kaggle_rag.models.layouts import Writer
from kaggle_rag.models.loading import Backbone, load_backbone, max_positions
from kaggle_rag.retrieval.contexts import read_contexts
from training.peft_methods import METHODS, with_method
from training.ranker_config import FILES, RankerRun
from training.ranker_data import Changes, EpochQuestions, Lessons
from training.ranker_trainer import RankerTrainer, make_ranker_trainer
from training.run import Run
from training.splits import split_lessons
from training.stages import say
from training.trainer import seconds_a_step
from training.weights import freeze


def train_ranker(command: str, settings: RankerRun) -> dict[str, Any]:
    """Train, or go on training, and give the run's record.

    Raises
    ------
    KitError : for every fault of the settings, the files and the folders, before anything is learnt.
    """
    run = Run(command, settings, FILES)
    if record := run.finished():
        return record
    learnt, held = split_lessons(settings)
    with run.begun() as work:
        say(f"{len(learnt):,} questions to learn from, {len(held):,} held out")
        start = time.perf_counter()
        trainer = _fitted(settings, learnt, held, work, run)
        result = {
            "after": trainer.judge() if held else {},
            "steps": trainer.state.global_step,
            "best step": trainer.state.best_global_step or trainer.state.global_step,
            "seconds": round(time.perf_counter() - start, 1),
            "batch": trainer.settings.batch,
            "accumulate": trainer.settings.accumulate,
        }
        return run.finish(lambda folder: save(trainer, folder), result)


def dry_run(settings: RankerRun) -> dict[str, Any]:
    """What a run would take, by one batch and one evaluation; no weight changes, nothing is written."""
    learnt, held = split_lessons(settings)
    set_seed(settings.seed)
    backbone, card = prepared(settings)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(settings, backbone, card, learnt, held, Path(folder))
        start = time.perf_counter()
        before = trainer.judge() if held else {}
        judging = time.perf_counter() - start
        batch = seconds_a_step(trainer)
        batches = len(trainer.get_train_dataloader())
    steps = math.ceil(settings.epochs * math.ceil(batches / settings.accumulate))
    evaluations = settings.epochs * settings.evaluations + 1 if held else 0
    trained = sum(weight.numel() for weight in backbone.model.parameters() if weight.requires_grad)
    return {
        "dry run": True,
        "before": before,
        "steps": steps,
        "seconds": round(batch * batches * settings.epochs + judging * evaluations, 1),
        "notes": {"questions to learn from": len(learnt), "held out": len(held), "weights trained": trained},
    }


def _fitted(settings: RankerRun, learnt: Lessons, held: Lessons, work: Path, run: Run) -> RankerTrainer:
    """The trainer at the end of its run; where memory ran out, with smaller batches."""
    while True:
        set_seed(settings.seed)
        backbone, card = prepared(settings)
        trainer = _trainer(settings, backbone, card, learnt, held, work)
        last = run.last_checkpoint()
        if last:
            say(f"going on from {last.name}")
        try:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
            if trainer.average:
                trainer.average.put(trainer.average.average)
            return trainer
        except torch.OutOfMemoryError as error:
            if settings.batch == 1:
                raise ConfigError(
                    "not even one question fits into memory",
                    where="batch: 1",
                    cure="lower max_tokens, set gradient_checkpointing: true, or peft.method: qlora",
                ) from error
        halved = {"batch": settings.batch // 2, "accumulate": settings.accumulate * 2}
        settings = settings.model_copy(update=halved)
        say("out of memory: going on with batch {batch}, accumulate {accumulate}".format(**halved))
        del trainer, backbone
        release()


def prepared(settings: RankerRun) -> tuple[Backbone, RankerCard]:
    """The backbone with its head and its adapter, ready to learn, and the card of what it will be."""
    device = device_of(settings.device)
    method = METHODS[settings.peft.method]
    compute = half_of(device) if settings.precision == "auto" else settings.precision
    backbone = load_backbone(
        settings.model, settings.form, device=device, nf4=method.nf4,
        # Whole weights stay in float32; those in 4 bits are computed in half precision.
        precision=compute if method.nf4 else "fp32", labels=2 if settings.others else 1,
    )  # fmt: skip
    _require_length(settings, backbone)
    freeze(backbone.model, settings.frozen_layers, embeddings=settings.frozen_embeddings)
    model = with_method(backbone, settings.peft.method, settings.peft.options)
    backbone = backbone._replace(model=model)
    if settings.gradient_checkpointing:
        backbone.model.gradient_checkpointing_enable({"use_reentrant": False})
        # Frozen embeddings would cut the recomputed layers off from the loss.
        backbone.model.enable_input_require_grads()
    layout = dataclasses.replace(backbone.form.layout, **settings.template)
    checkpoint = resolve(settings.model)
    adapted = bool(method.config)
    card = RankerCard(
        form=settings.form, layout=layout, max_tokens=settings.max_tokens, chunks=settings.chunks,
        labels=2 if settings.others else 1, base=settings.model if adapted else "",
        base_sha256=checkpoint.sha256 if adapted else "", nf4=method.nf4,
    )  # fmt: skip
    return backbone, card


def _require_length(settings: RankerRun, backbone: Backbone) -> None:
    limit = max_positions(backbone.model.config)
    if limit and settings.max_tokens > limit:
        raise ConfigError(
            f"the backbone reads {limit} tokens at most, {settings.max_tokens} were asked for",
            where="max_tokens",
            cure=f"set max_tokens: {limit}",
        )


def _trainer(
    settings: RankerRun, backbone: Backbone, card: RankerCard, learnt: Lessons, held: Lessons, work: Path
) -> RankerTrainer:
    changes = Changes(settings.shuffle_options, settings.drop_snippets, settings.weaker, settings.seed)
    weaker = None
    if settings.weaker_contexts:
        weaker = Lessons(learnt.questions, read_contexts(settings.weaker_contexts, learnt.questions))
    questions = EpochQuestions(
        learnt.items(settings.chunks), weaker.items(settings.chunks) if weaker else None,
        backbone.form, Writer(backbone.tokenizer, card.layout, card.max_tokens), changes,
        learnt.weights,
    )  # fmt: skip
    return make_ranker_trainer(settings, backbone, card, questions, held.items(settings.chunks), work, say)


def save(trainer: RankerTrainer, folder: Path) -> None:
    """Weights or adapter, tokenizer, and the card that seals them."""
    trainer.model.save_pretrained(folder)
    trainer.backbone.tokenizer.save_pretrained(folder)
    trainer.card.write(folder)
