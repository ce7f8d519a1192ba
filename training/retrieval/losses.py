"""Losses by name: the rows each takes and how to build it. Nothing heavy is imported until one is built."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable
from typing import Any, Literal

from kaggle_rag.runtime.errors import ConfigError

# tuple: query, positive, negative_1 ... negative_n.   triplet: one row per negative.
# labelled: query, passage, label.   list: query, passages, labels.   margin: a tuple and its labels.
Rows = Literal["tuple", "triplet", "labelled", "list", "margin"]


@dataclasses.dataclass(frozen=True)
class Loss:
    """``make(model, settings)`` builds the module; ``distinct`` keeps equal texts out of one batch.

    ``takes`` names the settings that only this loss, or few others, are built from. ``denoises``: learns from
    the passages themselves, damaged, and from no question.
    """

    make: Callable[[Any, Any], Any]
    rows: Rows
    least_negatives: int = 0
    distinct: bool = False
    teacher: bool = False
    takes: tuple[str, ...] = ()
    denoises: bool = False


def _library() -> Any:
    from training.loop.library import retriever_losses

    return retriever_losses()


def _infonce(model: Any, settings: Any) -> Any:
    return _library().MultipleNegativesRankingLoss(model, scale=settings.scale)


def _infonce_symmetric(model: Any, settings: Any) -> Any:
    losses = _library()
    if "directions" not in inspect.signature(losses.MultipleNegativesRankingLoss).parameters:
        return losses.MultipleNegativesSymmetricRankingLoss(model, scale=settings.scale)
    return losses.MultipleNegativesRankingLoss(
        model, scale=settings.scale,
        directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction",
    )  # fmt: skip


def _infonce_cached(model: Any, settings: Any) -> Any:
    return _library().CachedMultipleNegativesRankingLoss(
        model, scale=settings.scale, mini_batch_size=settings.mini_batch
    )


def _triplet(model: Any, settings: Any) -> Any:
    losses = _library()
    # On unit vectors a cosine distance lies in 0..2; the default margin of 5 could never be met.
    cosine = losses.TripletDistanceMetric.COSINE
    return losses.TripletLoss(model, distance_metric=cosine, triplet_margin=0.2)


def _triplet_hard(model: Any, settings: Any) -> Any:
    from training.retrieval.triplets import BatchHardTriplet

    return BatchHardTriplet(model)


def _margin_mse_of_cosines(model: Any, settings: Any) -> Any:
    from sentence_transformers.util import pairwise_cos_sim

    return _library().MarginMSELoss(model, similarity_fct=pairwise_cos_sim)


def _contrastive(model: Any, settings: Any) -> Any:
    return _library().OnlineContrastiveLoss(model)


def _cosent(model: Any, settings: Any) -> Any:
    return _library().CoSENTLoss(model, scale=settings.scale)


def _vicreg(model: Any, settings: Any) -> Any:
    from training.retrieval.vicreg import VICReg

    return VICReg(model, settings.vicreg_weights, settings.expander)


def _tsdae(model: Any, settings: Any) -> Any:
    return _library().DenoisingAutoEncoderLoss(model)


def can_denoise() -> bool:
    """Whether this release ties encoder and decoder in a way that the installed transformers has."""
    from transformers import PreTrainedModel

    tie = "_tie_encoder_decoder_weights"
    module = sys.modules[_library().DenoisingAutoEncoderLoss.__module__]
    return hasattr(module, tie) or hasattr(PreTrainedModel, tie)


def require_decoder(model: Any, name: str) -> None:
    """Raise ``ConfigError`` if a sentence encoder's backbone cannot also write text."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if not can_denoise():
        raise ConfigError(
            "this sentence-transformers cannot tie encoder and decoder with this transformers", where="loss",
            expected="sentence-transformers 6 for the loss tsdae", cure="update it, or choose another --loss",
        )  # fmt: skip
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    if config is None or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ConfigError(
            "the loss tsdae needs a backbone that can also write text", where=name,
            expected="such as BERT or RoBERTa", cure="choose another --loss",
        )  # fmt: skip


RETRIEVER_LOSSES: dict[str, Loss] = {
    "infonce": Loss(_infonce, "tuple", distinct=True, takes=("scale",)),
    "infonce-symmetric": Loss(_infonce_symmetric, "tuple", distinct=True, takes=("scale",)),
    "infonce-cached": Loss(_infonce_cached, "tuple", distinct=True, takes=("scale", "mini_batch")),
    "triplet": Loss(_triplet, "triplet", least_negatives=1),
    "contrastive": Loss(_contrastive, "labelled", least_negatives=1),
    "cosent": Loss(_cosent, "labelled", least_negatives=1, takes=("scale",)),
    "triplet-hard": Loss(_triplet_hard, "tuple", distinct=True),
    "margin-mse": Loss(
        _margin_mse_of_cosines, "margin", least_negatives=1, teacher=True, takes=("teacher",)
    ),
    # Equal passages in a batch have no variance for the loss to spread.
    "vicreg": Loss(_vicreg, "tuple", distinct=True, takes=("vicreg_weights", "expander")),
    "tsdae": Loss(_tsdae, "tuple", takes=("drawn",), denoises=True),
}


def _bce(model: Any, settings: Any) -> Any:
    import torch
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    # One positive faces several negatives: the weight balances both sides.
    weight = None if settings.labels else torch.tensor(float(settings.negatives))
    return BinaryCrossEntropyLoss(model, pos_weight=weight)


def _mse(model: Any, settings: Any) -> Any:
    import torch
    from sentence_transformers.cross_encoder.losses import MSELoss

    return MSELoss(model, activation_fn=torch.nn.Sigmoid())


def _margin_mse(model: Any, settings: Any) -> Any:
    from sentence_transformers.cross_encoder.losses import MarginMSELoss

    return MarginMSELoss(model)


def _pairwise(model: Any, settings: Any) -> Any:
    from sentence_transformers.cross_encoder.losses import RankNetLoss

    return RankNetLoss(model)


def _listwise(model: Any, settings: Any) -> Any:
    from sentence_transformers.cross_encoder.losses import ListNetLoss

    return ListNetLoss(model)


def _lambda(model: Any, settings: Any) -> Any:
    from sentence_transformers.cross_encoder.losses import LambdaLoss

    return LambdaLoss(model)


RERANKER_LOSSES: dict[str, Loss] = {
    "bce": Loss(_bce, "labelled"),
    "mse": Loss(_mse, "labelled", teacher=True),
    "margin-mse": Loss(_margin_mse, "margin", teacher=True),
    "ranknet": Loss(_pairwise, "list"),
    "listnet": Loss(_listwise, "list"),
    "lambda": Loss(_lambda, "list"),
}
