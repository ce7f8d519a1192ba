"""The memory a run needs before any ranker: libraries, index, encoders and re-ranker, by files alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_rag.config import Solution
from kaggle_rag.index.kinds import ram_of
from kaggle_rag.index.manifest import Manifest
from kaggle_rag.models.answering.forms import form_of
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, resolve
from kaggle_rag.models.memory import weights_of
from kaggle_rag.runtime.errors import KitError
from kaggle_rag.runtime.limits import Need, require

if TYPE_CHECKING:
    from kaggle_rag.rankers.trained import TrainedRanker

# torch, all-MiniLM-L6-v2 and one batch of questions; measured on the sample and on 4,000 questions.
_BASE_RAM = 1_000_000_000
# That encoder's weights and the activations of one batch of 32,768 tokens, by arithmetic.
_BASE_GPU = 1_500_000_000
# Options per question, assumed for the smallest batch.
_OPTIONS = 5
# Weights that both already include.
_SMALL = 100_000_000


def require_limits(solution: Solution, *, search: bool, device: str) -> None:
    """Raise ``LimitError`` if the limits are below what a run on a device needs before any ranker.

    On the device ``cpu``, nothing here imports torch.
    """
    limits = solution.limits
    require(Need("answering", _BASE_RAM, "raise limits.ram (--ram)"), ram=limits.ram)
    if search and solution.index is not None:
        require(_search_need(solution, solution.index, device), ram=limits.ram, gpu=limits.gpu)


def need_in_memory(ranker: TrainedRanker) -> Need:
    """The memory in which a trained ranker answers that is whole in memory.

    Raises
    ------
    CheckpointError : an adapter's backbone is not on this machine, or a file is damaged.
    """
    from kaggle_rag.models.answering.base import TOKENS
    from kaggle_rag.models.answering.packed import packed_of
    from kaggle_rag.models.description import config_of
    from kaggle_rag.models.loading import family_in
    from kaggle_rag.models.memory import Reading, estimate

    folders = [*dict.fromkeys([ranker.backbone_folder, ranker.folder])]
    tokens = ranker.batch_tokens or TOKENS[ranker.device.split(":")[0]]
    form = form_of(ranker.card.form, family_in(str(folders[0])))
    nf4 = ranker.load_in_4bit or ranker.card.nf4
    needed = estimate(
        folders,
        config_of(folders[0]),
        Reading(
            ranker.device, ranker.precision, max(_OPTIONS, tokens // ranker.max_tokens), ranker.max_tokens,
            nf4=nf4, answers=not (form.has_head or form.embeds),
        ),
    )  # fmt: skip
    cure = "raise limits.gpu (--set limits.gpu)" if needed.gpu else "raise limits.ram (--ram)"
    smaller = "" if nf4 else ", set rankers.options.load_in_4bit: true"
    if packed_of(form) is not None:
        smaller += ", set rankers.options.streamed: true"
    return Need(
        f"rank: {ranker.folder.name}",
        needed.ram,
        f"{cure}{smaller}, lower rankers.options.batch_tokens or max_tokens, or use a smaller ranker",
        gpu=needed.gpu,
        weights=needed.weights,
    )


def _search_need(solution: Solution, index: Path, device: str) -> Need:
    # Mapped pages of a FAISS file count as resident while they are searched.
    manifest = Manifest.read(index)
    mapped = sum(ram_of(c.kind, manifest.passages, c.encoder.dim) for c in manifest.dense.values())
    on_gpu = device.startswith("cuda")
    models = max(0, sum(_models(solution, manifest, "fp16" if on_gpu else "fp32")) - _SMALL)
    cure = "raise the limit, or build a smaller kind of index (wiki_index build --ram)"
    if models:
        cure += ", or leave out contexts.reranker or an encoder of contexts.retrievers"
    return Need(
        "contexts",
        _BASE_RAM + mapped + (0 if on_gpu else models),
        cure,
        gpu=_BASE_GPU + models if on_gpu else 0,
    )


def _models(solution: Solution, manifest: Manifest, halved: str) -> Iterator[int]:
    """Bytes of the weights of the encoders, which stay in float32, and of the re-ranker.

    Another check reports those that are not on this machine.
    """
    settings = solution.contexts
    for name, card in manifest.dense.items():
        is_default = name == manifest.default
        if is_default or name in settings.retrievers:
            location = solution.encoder if is_default else solution.encoders.get(name)
            with contextlib.suppress(KitError):
                yield weights_of(resolve(location or card.encoder.name or DEFAULT_ENCODER).path, "fp32")
    if settings.reranker:
        with contextlib.suppress(KitError):
            yield weights_of(resolve(settings.reranker).path, halved)
