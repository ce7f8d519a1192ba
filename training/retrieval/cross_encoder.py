"""Fine-tune a cross-encoder so that the passage that answers ranks first among those retrieved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from transformers import set_seed

from kaggle_rag.models import pairmodel
from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.models.devices import device_of
from kaggle_rag.models.pairmodel import PairModel
from kaggle_rag.retrieval.crossencoder import CrossEncoder, has_head, require_positions
from kaggle_rag.runtime.console import bar, say
from training.loop.library import BaseEvaluator
from training.loop.precision import mixed_precision
from training.loop.run_folder import Run
from training.loop.trainer import TrainerMixin
from training.retrieval.bi_encoder import figures
from training.retrieval.columns import rows_of
from training.retrieval.dataset import EvalQuery, RetrievalDataset, make_dataset
from training.retrieval.losses import RERANKER_LOSSES
from training.retrieval.run import dry_run, learn
from training.retrieval.settings import RerankerSettings
from training.retrieval.teacher import soft_labels
from training.retrieval.trainer import make_trainer


class _CrossEncoderTrainer(TrainerMixin, CrossEncoderTrainer):  # type: ignore[misc]
    def write_weights(self, folder: Path, state: Any) -> None:
        pairmodel.save(self.model, folder)


class RerankingEvaluator(BaseEvaluator):  # type: ignore[misc]
    """Recall@1, 5, 10 and nDCG@10 of each question's positive among its rescored candidates.

    A positive that is not among the candidates counts as missed, whatever the scores.
    """

    def __init__(self, model: PairModel, held: Sequence[EvalQuery], pool: Sequence[str]) -> None:
        super().__init__()
        self.scorer, self.held, self.pool = CrossEncoder.of_model(model), held, pool

    def __call__(self, model: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        self.scorer.model.eval()
        pairs = [(held.query, row) for held in self.held for row in held.candidates]
        with bar("pairs", len(pairs)) as shown:
            scores = self.scorer.scores(
                [query for query, _ in pairs], [self.pool[row] for _, row in pairs], on_rows=shown.update
            )
        rankings, start = [], 0
        for held in self.held:
            end = start + len(held.candidates)
            order = np.argsort(-scores[start:end], kind="stable")
            rankings.append([held.candidates[position] for position in order])
            start = end
        return figures(rankings, [held.positive for held in self.held])


def train_reranker(settings: RerankerSettings, *, dry: bool = False) -> dict[str, Any]:
    """Train, or resume training, and return the run's record; with ``dry``, only estimate what it needs.

    Raises
    ------
    KitError : for any fault in the settings, files or folders, before training starts.
    """
    run = Run("reranker", settings)
    if not dry and (record := run.finished()):
        return record
    mixed_precision(settings, device_of(settings.device))
    set_seed(settings.seed)
    model = load(settings)

    def dataset() -> RetrievalDataset:
        return make_dataset(settings)

    def trainer(dataset: RetrievalDataset, folder: Path) -> Any:
        return _trainer(settings, model, dataset, folder)

    def save(folder: Path) -> None:
        pairmodel.save(model, folder)

    return dry_run(settings, dataset, trainer) if dry else learn(run, dataset, trainer, save)


def load(settings: RerankerSettings) -> PairModel:
    """The model to start from; one without a head that scores pairs gets a new one, drawn by the seed."""
    folder = resolve(settings.model).path
    if not has_head(folder):
        say(f"{settings.model} has no head that scores pairs: adding a new one")
    model = pairmodel.load(folder, num_labels=1, max_length=settings.max_tokens, device=settings.device)
    if settings.max_tokens:
        require_positions(model, settings.max_tokens)
    return model


def _trainer(settings: RerankerSettings, model: PairModel, dataset: RetrievalDataset, folder: Path) -> Any:
    kind = RERANKER_LOSSES[settings.loss]
    labels = soft_labels(settings.labels, dataset.examples, settings.device) if settings.labels else None
    return make_trainer(
        (_CrossEncoderTrainer, CrossEncoderTrainingArguments), settings, folder, model,
        kind.make(model, settings), Dataset.from_dict(rows_of(kind.rows, dataset.examples, labels)),
        RerankingEvaluator(model, dataset.held, dataset.pool) if dataset.held else None,
        distinct=kind.distinct, say=say,
    )  # fmt: skip
