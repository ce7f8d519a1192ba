"""The folder of a trained ranker: where it is, and the card of one that has none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaggle_rag.models.answering.forms import form_of
from kaggle_rag.models.card import CARD, RankerCard
from kaggle_rag.models.checkpoints import attached, resolve
from kaggle_rag.models.layouts import layout_of
from kaggle_rag.runtime.errors import CheckpointError, ConfigError


def located(name: str) -> Path:
    """The folder that a name refers to: a ranker here or among the attached inputs, or a checkpoint."""
    if (folder := Path(name).expanduser()).is_dir():
        return folder
    if (attached_folder := next(attached(name, CARD), None)) is not None:
        return attached_folder
    try:
        return resolve(name).path
    except CheckpointError as error:
        raise CheckpointError(
            f"no ranker {name!r} on this machine",
            where="rankers.options.folder",
            expected=f"a folder with {CARD}, as python -m training writes it, here or among the inputs",
            cure="check the path, or attach the folder as an input",
        ) from error


def bare_card(
    folder: Path, form: str, template: str | Mapping[str, Any] | None, max_tokens: int | None
) -> RankerCard:
    """The card of a checkpoint trained elsewhere, which has none of its own."""
    if not max_tokens:
        raise ConfigError(
            f"a checkpoint without {CARD} needs max_tokens",
            where="rankers.options",
            expected="the longest row it was trained to read, in tokens",
        )
    from kaggle_rag.models.loading import family_in

    own = form_of(form, family_in(str(folder))).layout
    return RankerCard(
        form, layout_of(own, template), max_tokens, snippets=0, labels=1, base="", base_sha256="", nf4=False
    )


def require_positions(folder: Path, max_tokens: int) -> None:
    """Raise ``ConfigError`` if a backbone has fewer positions than the longest row has tokens."""
    from kaggle_rag.models.description import config_of, max_positions

    limit = max_positions(config_of(folder))
    if limit and max_tokens > limit:
        raise ConfigError(
            f"this backbone reads at most {limit:,} tokens, not {max_tokens:,}",
            where="rankers.options.max_tokens", cure=f"set max_tokens: {limit}",
        )  # fmt: skip
