"""A trained ranker that is larger than the memory, opened layer by layer, and what it may use."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from kaggle_rag.models.answering.forms import DECODER, form_of
from kaggle_rag.models.card import RankerCard, require_base
from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.rankers.base import Workspace
from kaggle_rag.runtime.errors import ConfigError, show_size
from kaggle_rag.runtime.limits import Need

if TYPE_CHECKING:
    from kaggle_rag.models.streaming.model import StreamedModel
    from kaggle_rag.models.streaming.room import Room

# Share of the free memory that hidden states may take where no limit says how much.
_FREE = 0.5


def open_streamed(
    folder: Path, card: RankerCard, *, base: str | None, device: str, precision: str, nf4: bool
) -> tuple[StreamedModel, Any]:
    """The model of a ranker, of which no weights are read yet, and its tokenizer.

    Parameters
    ----------
    base : location of an adapter's backbone (default: its name in training).
    nf4 : quantize the backbone to 4 bits as it arrives; that of an adapter trained in 4 bits always is.

    Raises
    ------
    ConfigError : only decoders have layers that can be run one by one over packed rows.
    CheckpointError, ArtifactError : a file is missing or damaged, or the backbone is another.
    """
    from kaggle_rag.models.answering.packed import packed_of
    from kaggle_rag.models.description import described
    from kaggle_rag.models.loading import family_in
    from kaggle_rag.models.streaming.model import StreamedModel

    if card.base:
        require_base(base or card.base, card)
    whole = resolve(base or card.base).path if card.base else folder
    family = family_in(str(whole))
    form = packed_of(form_of(card.form, family)) if family == DECODER else None
    if form is None:
        raise ConfigError(
            f"a backbone of the family {family} is not run layer by layer", where="rankers.options.streamed",
            expected="a decoder in the form binary, letters or options", cure="remove streamed",
        )  # fmt: skip
    model = StreamedModel(
        whole, form, device=device, precision=precision, adapter=folder if card.base else None,
        labels=card.labels, nf4=nf4 or card.nf4, more=_further(device),
    )  # fmt: skip
    return model, described(whole)[1]


def _further(device: str) -> tuple[str, ...]:
    """The other GPUs, where none is named: they share the questions."""
    if device != "cuda":
        return ()
    import torch

    return tuple(f"cuda:{number}" for number in range(1, torch.cuda.device_count()))


def need_of(model: StreamedModel, max_tokens: int, batch_tokens: int | None) -> Need:
    """What answering needs with nothing kept, and the least that would do."""
    need = model.need(0, max_tokens, batch_tokens)
    least = model.need(0, max_tokens, max_tokens)
    smaller = ""
    if (least.ram, least.gpu) != (need.ram, need.gpu):
        of_gpu = f" and {show_size(least.gpu)} of GPU memory" if least.gpu else ""
        smaller = (
            f", or set rankers.options.batch_tokens: {max_tokens}, with which {show_size(least.ram)} of RAM"
            f"{of_gpu} would do"
        )
    return dataclasses.replace(need, setting=f"raise limits.ram (--ram) or limits.gpu{smaller}")


def room_within(model: StreamedModel, work: Workspace, max_tokens: int, batch_tokens: int | None) -> Room:
    """What the limits leave beside a layer and the next: to hidden states, and to layers that stay in memory.

    Without limits, hidden states may take half of the memory that is free, and no layer stays.
    """
    from kaggle_rag.models.streaming.room import Room

    need = model.need(0, max_tokens, batch_tokens)
    ram = int(_FREE * psutil.virtual_memory().available) if work.ram is None else max(0, work.ram - need.ram)
    gpu = 0
    if model.device.startswith("cuda"):
        import torch

        free = torch.cuda.mem_get_info(model.device)[0]
        gpu = max(0, int(_FREE * (free - need.gpu)) if work.gpu is None else work.gpu - need.gpu)
    limited = (work.gpu if model.device.startswith("cuda") else work.ram) is not None
    return Room(device=gpu, ram=ram, folder=work.folder, disk=work.disk, resident=None if limited else 0)
