"""The trainer of retrievers and re-rankers: seeded batches, with each text once if a loss requires it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import DefaultBatchSampler
from transformers import PrinterCallback, TrainerCallback

from kaggle_rag.text.normalise import same
from training.loop.arguments import arguments_of
from training.loop.trainer import LastLook, Patience, Progress, curves
from training.retrieval.settings import RerankerSettings, RetrieverSettings


class SeededBatches(DefaultBatchSampler):  # type: ignore[misc]
    """Full batches in an order that only seed and epoch decide, so a resumed epoch is the same.

    The default sampler keeps drawing from one generator, whose state no checkpoint stores.
    """

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(
            len(self.sampler), generator=torch.Generator().manual_seed(self.seed + self.epoch)
        ).tolist()
        for start in range(0, len(order) - self.batch_size + 1, self.batch_size):
            yield order[start : start + self.batch_size]


class DistinctBatches(SeededBatches):
    """Seeded batches in which no row's negative is another row's answer.

    Every passage of a batch is a negative of every other row, so a passage may be the positive of only
    one row, and the negative of no other. A row that does not fit waits for the next batch; when too
    few are left, all are dealt again. The library's own sampler may yield fewer batches than its length
    says, and a resumed run then miscounts its epochs.
    """

    def __init__(self, dataset: Dataset, *args: Any, **kwargs: Any) -> None:
        super().__init__(dataset, *args, **kwargs)
        columns = [dataset[name] for name in dataset.column_names if name.startswith("negative")]
        self.positives = [same(text) for text in dataset["positive"]]
        self.negatives = [{same(text) for text in row} for row in zip(*columns)] or [set()] * len(dataset)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        waiting: list[int] = []
        for _ in range(len(self)):
            batch, waiting = self._fill(waiting)
            if len(batch) < self.batch_size:
                dealt = torch.randperm(len(self.positives), generator=generator).tolist()
                batch, waiting = self._fill([*batch, *waiting, *dealt])
            if len(batch) < self.batch_size:
                # Few passages, each a negative of many rows: at least keep the answers apart.
                batch, waiting = self._fill([*batch, *waiting], strict=False)
            yield batch

    def _fill(self, rows: list[int], *, strict: bool = True) -> tuple[list[int], list[int]]:
        """A batch from the first rows that fit together, and the rows left over."""
        batch: list[int] = []
        left: list[int] = []
        answers: set[str] = set()
        wrong: set[str] = set()
        for position, row in enumerate(rows):
            if len(batch) == self.batch_size:
                return batch, left + rows[position:]
            positive, negatives = self.positives[row], self.negatives[row] if strict else set()
            if positive in answers or positive in wrong or negatives & answers:
                left.append(row)
                continue
            batch.append(row)
            answers.add(positive)
            wrong |= negatives
        return batch, left


class _Epochs(TrainerCallback):  # type: ignore[misc]
    """Tells the batch sampler the epoch, and clears all gradients after a step.

    In a resumed epoch, accelerate 1.12 wraps the sampler to skip seen batches, and the epoch is not passed
    through: the rest of a later epoch was then drawn as if it were the first.
    """

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # A resumed epoch starts at a fraction.
        kwargs["train_dataloader"].batch_sampler.epoch = int(state.epoch + 1e-6)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # transformers 5.0 clears the gradients of the model alone: those of an expander would add up.
        kwargs["optimizer"].zero_grad()


def make_trainer(
    kind: tuple[type, type],
    settings: RetrieverSettings | RerankerSettings,
    folder: Path,
    model: Any,
    loss: Any,
    rows: Dataset,
    evaluator: Any | None,
    *,
    distinct: bool,
    say: Callable[[str], object],
) -> Any:
    """A trainer of ``kind`` (trainer class, class of its arguments) for ``rows``, ready to train.

    ``distinct`` keeps rows that share a text out of one batch, where each would be the other's negative.
    """
    trainer_class, arguments_class = kind
    arguments = arguments_class(
        **arguments_of(
            settings, model.device.type, folder, len(rows) // settings.batch,
            metric=None if evaluator is None else settings.metric, greater=True,
        ),
        dataloader_drop_last=True, batch_sampler=DistinctBatches if distinct else SeededBatches,
    )  # fmt: skip
    # On two GPUs the trainer would split each batch, and with it the negatives of the batch.
    arguments._n_gpu = min(1, arguments.n_gpu)
    callbacks: list[TrainerCallback] = [Progress(say), _Epochs(), LastLook()]
    if settings.patience:
        callbacks.append(Patience(settings.patience))
    if settings.report_to == "tensorboard":
        callbacks.append(curves(settings.out))
    trainer = trainer_class(
        model=model, args=arguments, train_dataset=rows, loss=loss, evaluator=evaluator, callbacks=callbacks
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
