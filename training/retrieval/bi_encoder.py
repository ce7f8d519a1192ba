"""Fine-tune a bi-encoder so that questions retrieve the passages that answer them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from transformers import set_seed

from kaggle_rag.evaluation.metrics import ndcg_at_k, recall_at_k
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.models.devices import device_of
from kaggle_rag.models.sentence_model import left_out_tokens
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import CheckpointError
from training.loop.library import BaseEvaluator
from training.loop.precision import mixed_precision
from training.loop.run_folder import Run
from training.loop.trainer import TrainerMixin
from training.retrieval.columns import Labels, prompted, rows_of
from training.retrieval.corpus import encode_passages, encode_queries, nearest
from training.retrieval.dataset import EvalQuery, RetrievalDataset, make_dataset
from training.retrieval.losses import RETRIEVER_LOSSES, require_decoder
from training.retrieval.mining import Example
from training.retrieval.run import dry_run, learn
from training.retrieval.settings import RetrieverSettings
from training.retrieval.teacher import soft_labels
from training.retrieval.trainer import make_trainer

_LOSS = "loss.safetensors"
# nDCG@10 looks the deepest.
DEPTH = 10


class _BiEncoderTrainer(TrainerMixin, SentenceTransformerTrainer):  # type: ignore[misc]
    """Keeps what only the loss has, such as an expander or a decoder, in its checkpoints."""

    def write_weights(self, folder: Path, state: Any) -> None:
        super().write_weights(folder, state)
        if own := self._of_the_loss():
            save_file({name: weight.detach().contiguous() for name, weight in own.items()}, folder / _LOSS)

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        super()._load_from_checkpoint(checkpoint_path)
        if own := self._of_the_loss():
            stored = load_file(Path(checkpoint_path) / _LOSS)
            with torch.no_grad():
                for name, weight in own.items():
                    weight.copy_(stored[name])

    def _of_the_loss(self) -> dict[str, torch.nn.Parameter]:
        of_the_model = {id(weight) for weight in self.model.parameters()}
        return {name: w for name, w in self.loss.named_parameters() if id(w) not in of_the_model}


class RetrievalEvaluator(BaseEvaluator):  # type: ignore[misc]
    """Recall@1, 5 and 10 and nDCG@10 of each question's one positive among all passages.

    Encodes as inference does: through `Encoder`, with its prompts and its maximum length.
    """

    def __init__(self, encoder: Encoder, held: Sequence[EvalQuery], pool: Sequence[str]) -> None:
        super().__init__()
        self.encoder, self.held, self.pool = encoder, held, pool

    def __call__(self, model: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        self.encoder.model.eval()
        passages = encode_passages(self.encoder, self.pool)
        queries = encode_queries(self.encoder, [held.query for held in self.held])
        _, hits = nearest(queries, passages, DEPTH)
        return figures([row.tolist() for row in hits], [held.positive for held in self.held])


def figures(rankings: Sequence[Sequence[int]], positives: Sequence[int]) -> dict[str, float]:
    """Mean recall@1, 5, 10 and nDCG@10 of rankings with one relevant passage each."""
    pairs = list(zip(rankings, positives))
    recalls = {f"recall@{k}": [recall_at_k(row, {gold}, k) for row, gold in pairs] for k in (1, 5, 10)}
    gains = {"ndcg@10": [ndcg_at_k(row, {gold: 1.0}, DEPTH) for row, gold in pairs]}
    return {name: float(np.mean(values)) for name, values in (recalls | gains).items()}


def train_retriever(settings: RetrieverSettings, *, dry: bool = False) -> dict[str, Any]:
    """Train, or resume training, and return the run's record; with ``dry``, only estimate what it needs.

    Raises
    ------
    KitError : for any fault in the settings, files or folders, before training starts.
    """
    run = Run("retriever", settings)
    if not dry and (record := run.finished()):
        return record
    mixed_precision(settings, device_of(settings.device))
    set_seed(settings.seed)
    encoder = Encoder(settings.model, device=settings.device, untrained=True)
    _require_pooled(encoder)
    if RETRIEVER_LOSSES[settings.loss].denoises:
        require_decoder(encoder.model, settings.model)

    def dataset() -> RetrievalDataset:
        return make_dataset(settings, encoder)

    def trainer(dataset: RetrievalDataset, folder: Path) -> Any:
        return _trainer(settings, encoder, dataset, folder)

    if dry:
        return dry_run(settings, dataset, trainer)
    return learn(run, dataset, trainer, lambda folder: _save(encoder, folder))


def _trainer(settings: RetrieverSettings, encoder: Encoder, dataset: RetrievalDataset, folder: Path) -> Any:
    kind = RETRIEVER_LOSSES[settings.loss]
    prompts = encoder.card.query_prompt, encoder.card.passage_prompt
    rows = rows_of(
        kind.rows, prompted(dataset.examples, *prompts), _labels(settings, dataset.examples, *prompts)
    )
    return make_trainer(
        (_BiEncoderTrainer, SentenceTransformerTrainingArguments), settings, folder, encoder.model,
        kind.make(encoder.model, settings), Dataset.from_dict(rows),
        RetrievalEvaluator(encoder, dataset.held, dataset.pool) if dataset.held else None,
        distinct=kind.distinct, say=say,
    )  # fmt: skip


def _require_pooled(encoder: Encoder) -> None:
    prompts = encoder.card.query_prompt, encoder.card.passage_prompt
    if any(prompt and left_out_tokens(encoder.model, prompt) for prompt in prompts):
        raise CheckpointError(
            "the pooling of this model leaves out its prompt, which a training here does not", where="model",
            expected="a model that pools all tokens, or one without prompts",
            cure="set include_prompt: true in the config.json of its pooling: it then learns with the prompt",
        )  # fmt: skip


def _labels(settings: RetrieverSettings, examples: Sequence[Example], query: str, passage: str) -> Labels:
    """The teacher's scores of the prompted texts; it reads them without these prompts."""
    if settings.labels is None or not RETRIEVER_LOSSES[settings.loss].teacher:
        return {}
    found = soft_labels(settings.labels, examples, settings.device)
    return {(query + asked, passage + text): score for (asked, text), score in found.items()}


def _save(encoder: Encoder, folder: Path) -> None:
    card = encoder.card
    if card.query_prompt or card.passage_prompt:
        # Prompts inferred from the model's name would be lost with that name.
        encoder.model.prompts = {"query": card.query_prompt, "document": card.passage_prompt}
    encoder.model.save_pretrained(str(folder), create_model_card=False)
