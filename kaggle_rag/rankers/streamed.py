"""A trained ranker that is larger than the memory, opened layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_rag.models.answering.forms import DECODER, form_of
from kaggle_rag.models.card import RankerCard, require_base
from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.runtime.errors import ConfigError

if TYPE_CHECKING:
    from kaggle_rag.models.streaming.model import StreamedModel


def open_streamed(
    folder: Path, card: RankerCard, *, base: str | None, device: str, precision: str
) -> tuple[StreamedModel, Any]:
    """The model of a ranker, of which no weights are read yet, and its tokenizer.

    Parameters
    ----------
    base : location of an adapter's backbone (default: its name in training).

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
        labels=card.labels,
    )  # fmt: skip
    return model, described(whole)[1]
