"""transformers' trainer for every form: our losses, our figures, and the optional extras."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import broadcast
from scipy.optimize import minimize_scalar
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from kaggle_rag.data.probabilities import softmax
from kaggle_rag.evaluation.metrics import accuracy, log_losses, map_at_k, ranks_of_answers
from kaggle_rag.evaluation.scaling import calibrated_loss
from kaggle_rag.models import own_adapters
from kaggle_rag.models.answering.item import Item
from kaggle_rag.models.answering.marginal import mixed
from kaggle_rag.models.card import RankerCard
from kaggle_rag.models.loading import Backbone
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.processes import is_first, processes
from training.loop.arguments import arguments_of
from training.loop.settings import CALIBRATED_LOSS
from training.loop.trainer import LastLook, Patience, Progress, TrainerMixin, curves
from training.loop.vicreg import spread_loss
from training.rankers.adversarial import ADVERSARIES, gradients_of
from training.rankers.dataset import EpochQuestions
from training.rankers.distillation import cosine_distance, divergence, with_lighter_labels
from training.rankers.dynamics import TrainingDynamics
from training.rankers.losses import loss_of, symmetric_divergence
from training.rankers.saving import save_weights
from training.rankers.settings import RankerRun
from training.rankers.weights import MovingAverage, rate_groups

Scores = npt.NDArray[np.float64]

# From the best snippet alone to all alike, for scores between 0 and 1.
_TEMPERATURES = (0.01, 10.0)
_OPTIMIZERS = {
    "adamw": "adamw_torch",
    "adamw-8bit": "adamw_bnb_8bit",
    "paged-adamw": "paged_adamw_32bit",
    "paged-adamw-8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
}


class RankerTrainer(TrainerMixin, Trainer):  # type: ignore[misc]
    """Trains any backbone in any form on the scores of its options."""

    def __init__(
        self, backbone: Backbone, card: RankerCard, settings: RankerRun, held: Sequence[Item], **kwargs: Any
    ) -> None:
        super().__init__(model=backbone.model, data_collator=backbone.collator(), **kwargs)
        self.backbone, self.card, self.settings, self.held = backbone, card, settings, held
        self.loss = loss_of(settings, settings.loss or backbone.form.loss)
        # Our loss is a mean: the trainer divides it by the batches of a step.
        self.model_accepts_loss_kwargs = False
        self.average = MovingAverage(self.model, settings.ema) if settings.ema else None
        epochs = math.ceil(settings.epochs)
        self.dynamics = TrainingDynamics(epochs, len(self.train_dataset)) if settings.data_map else None

    def get_train_dataloader(self) -> Any:
        # transformers 5.0 takes the batch of the checkpoint that it resumes from.
        self._train_batch_size = self.args.train_batch_size
        return super().get_train_dataloader()

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], **kwargs: Any) -> torch.Tensor:
        logits, loss = self._pass(model, inputs)
        if self.dynamics and "numbers" in inputs:
            self.dynamics.add(self.train_dataset.epoch, logits, inputs)
        spread = self._spread()
        if not self.settings.r_drop:
            return loss + spread
        again, second = self._pass(model, inputs)
        apart = symmetric_divergence(logits, again, inputs)
        return (loss + second) / 2 + self.settings.r_drop * apart + spread

    def _spread(self) -> torch.Tensor | float:
        """What keeps the vectors of a knowledge prefix's snippets apart."""
        knowledge = getattr(self.backbone.model, "knowledge", None)
        if knowledge is None or not knowledge.config.vicreg:
            return 0.0
        return float(knowledge.config.vicreg) * spread_loss(knowledge.vectors)

    def _pass(self, model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits of a batch, and the loss of answers and teachers."""
        if "teacher_vectors" not in inputs:
            logits = self.backbone.form.logits(model, inputs)
            return logits, self._loss(logits, inputs)
        form: Any = self.backbone.form
        logits, vectors = form.with_vectors(model, inputs)
        distance = cosine_distance(vectors, inputs)
        return logits, self._loss(logits, inputs) + self.settings.teacher_cosine * distance

    def _loss(self, logits: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if "soft" not in inputs:
            return self.loss(logits, inputs)
        share = self.settings.teacher_weight
        loss = self.loss(logits, with_lighter_labels(inputs, share))
        return loss + share * divergence(logits, inputs, self.settings.teacher_temperature)

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        begins = self.settings.adversarial_from * self.state.max_steps
        if self.settings.adversarial == "none" or self.state.global_step < begins:
            return super().training_step(model, inputs, *args, **kwargs)
        # What earlier batches of a step have accumulated is no part of this one's gradient.
        earlier = gradients_of(model) if self.args.gradient_accumulation_steps > 1 else {}
        loss: torch.Tensor = super().training_step(model, inputs, *args, **kwargs)
        # What a perturbed model says is no answer of its own: without numbers it is not recorded.
        again = {key: value for key, value in inputs.items() if key != "numbers"}
        with ADVERSARIES[self.settings.adversarial](model, self.settings.adversarial_size, earlier):
            super().training_step(model, again, *args, **kwargs)
        return loss

    optimizer: Any
    control: Any
    train_dataset: Any
    _seen: torch.Tensor | None = None

    def create_optimizer(self, *given: Any) -> Any:
        """``given``: the model, in releases of transformers that pass it, or nothing."""
        if self.optimizer is None:
            model = next((model for model in given if model is not None), self.model)
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            groups = rate_groups(
                model,
                set(self.get_decay_parameter_names(model)),
                self.args.learning_rate,
                self.settings.layer_decay,
                self.args.weight_decay,
            )
            # The library's own method uses these groups, and keeps embeddings out of 8-bit states.
            self.optimizer_cls_and_kwargs = (kind, {**options, "params": groups})
        return super().create_optimizer(*given)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The figures of the held-out questions, scored as inference scores them."""
        metrics = {f"eval_{name}": value for name, value in self.held_out_metrics().items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def held_out_metrics(self) -> dict[str, float]:
        with self.average.in_place() if self.average else contextlib.nullcontext():
            return self._from_first_process(figures(self.logits(self.held), self.held))

    def fit_mixing(self) -> None:
        """Fit the temperature of p(z | q) by the log loss of the held-out questions; no weight changes."""
        form: Any = self.backbone.form
        parts = [form.mixing.apart(item) for item in self.held]
        plain = self.backbone._replace(form=form.form)
        logits = self._logits(plain, [each for some in parts for each in some])

        def cost(log_temperature: float) -> float:
            mixing = dataclasses.replace(form.mixing, temperature=math.exp(log_temperature))
            return _log_loss(mixed(logits, parts, mixing), self.held)

        found = minimize_scalar(cost, bounds=tuple(map(math.log, _TEMPERATURES)), method="bounded")
        fitted = self._from_first_process({"temperature": math.exp(found.x)})
        form.mixing = dataclasses.replace(form.mixing, **fitted)
        self.card = dataclasses.replace(self.card, marginal=dataclasses.asdict(form.mixing))

    def _from_first_process(self, metrics: dict[str, float]) -> dict[str, float]:
        """The first process's metrics: with its own, each could stop, or choose a best checkpoint, alone."""
        if processes() == 1:
            return metrics
        values = torch.tensor([*metrics.values()], dtype=torch.float64, device=self.args.device)
        return dict(zip(metrics, broadcast(values).tolist()))

    def logits(self, items: Sequence[Item]) -> Scores:
        """Logits of questions with the current weights, ``(n, k)``."""
        return self._logits(self.backbone, items)

    def _logits(self, backbone: Backbone, items: Sequence[Item]) -> Scores:
        self.model.eval()
        # Weights sharded across processes come together only in the wrapper.
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        with self.compute_loss_context_manager():
            writer = Writer(self.backbone.tokenizer, self.card.layout, self.card.max_tokens)
            wrapper = self.model_wrapped if sharded else None
            return backbone.form.score(backbone, writer, items, wrapper=wrapper, quiet=not is_first())

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        # Every process adds its part; the first one then writes it among the weights.
        self._seen = self.dynamics.total() if self.dynamics else None
        super()._save_checkpoint(*args, **kwargs)

    def write_weights(self, folder: Path, state: Any) -> None:
        save_weights(self.model, folder, state)
        if self.dynamics and self._seen is not None:
            self.dynamics.save(folder, self._seen)
        if self.average:
            self.average.save(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if own_adapters.own_adapter(self.model):
            own_adapters.load(self.model, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.average:
            self.average.load(Path(resume_from_checkpoint))


class EachStep(TrainerCallback):  # type: ignore[misc]
    """Tells the dataset the epoch, and the moving average that the weights have changed."""

    def __init__(self, dataset: EpochQuestions) -> None:
        self.dataset = dataset
        self.average: MovingAverage | None = None

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # A resumed epoch starts at a fraction.
        self.dataset.epoch = int(state.epoch + 1e-6)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.average:
            self.average.update()


def figures(logits: Scores, items: Sequence[Item]) -> dict[str, float]:
    """MAP@3, accuracy, log loss, and log loss at the best temperature, of labelled questions."""
    answers = np.array([item.answer for item in items])
    present = logits > np.finfo(np.float32).min / 2
    ranks = ranks_of_answers(logits, answers, present)
    # Rounded: less than a ten-thousandth of a nat is no gain to wait for.
    calibrated = round(calibrated_loss(logits, answers, present), 4)
    return {
        "map@3": map_at_k(ranks, 3), "accuracy": accuracy(ranks), "log loss": _log_loss(logits, items),
        CALIBRATED_LOSS: calibrated,
    }  # fmt: skip


def _log_loss(logits: Scores, items: Sequence[Item]) -> float:
    """In nats, of labelled questions."""
    present = logits > np.finfo(np.float32).min / 2
    return float(log_losses(softmax(logits, present), np.array([item.answer for item in items])).mean())


def make_ranker_trainer(
    settings: RankerRun,
    backbone: Backbone,
    card: RankerCard,
    dataset: EpochQuestions,
    held: Sequence[Item],
    folder: Path,
    say: Callable[[str], object],
) -> RankerTrainer:
    """A trainer ready to train on ``dataset`` and to be evaluated on ``held`` (empty: never)."""
    each_step = EachStep(dataset)
    callbacks = [each_step, Progress(say), LastLook()]
    if settings.patience:
        callbacks.append(Patience(settings.patience))
    if settings.report_to == "tensorboard" and is_first():
        callbacks.append(curves(settings.out))
    arguments = _arguments(settings, backbone.model.device.type, len(dataset), folder, evaluates=bool(held))
    # On two GPUs one process would split each batch by copying the model: that is what accelerate is for.
    arguments._n_gpu = min(1, arguments.n_gpu)
    trainer = RankerTrainer(
        backbone, card, settings, held, args=arguments,
        train_dataset=dataset, eval_dataset=list(held) or None, callbacks=callbacks,
    )  # fmt: skip
    each_step.average = trainer.average
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(
    settings: RankerRun, device: str, count: int, folder: Path, *, evaluates: bool
) -> TrainingArguments:
    return TrainingArguments(
        **arguments_of(
            settings, device, folder, math.ceil(count / settings.batch / processes()),
            metric=CALIBRATED_LOSS if evaluates else None, greater=False,
        ),
        optim=_OPTIMIZERS[settings.optimizer], remove_unused_columns=False,
        # Forms call a model several times per step, and not equally often in each process.
        ddp_broadcast_buffers=False,
    )  # fmt: skip
