"""``ranker.json``: what a folder of weights needs besides them to answer questions again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.models.layouts import Layout
from kaggle_rag.models.memory import require_whole
from kaggle_rag.runtime.errors import ArtifactError, CheckpointError
from kaggle_rag.runtime.files import fields_sha256, seal, verify, write_json

CARD = "ranker.json"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class RankerCard:
    """A trained ranker.

    Attributes
    ----------
    form : a key of `kaggle_rag.models.answering.forms.FORMS`.
    layout : the template that options were written in.
    max_tokens, snippets : longest row, and snippets per context, as read in training (0: all).
    labels : of a binary head; 2 if it also sees the other options.
    base, base_sha256 : the backbone an adapter belongs to; empty if the weights are complete.
    nf4 : whether the backbone was in 4 bits when the adapter was trained.
    options : the columns that options had in training, and so the letters; 0 if unknown.
    marginal : ``kind`` and ``temperature`` of `kaggle_rag.models.answering.marginal.Mixing` where snippets
        are read apart; ``None``: they are read together.
    """

    form: str
    layout: Layout
    max_tokens: int
    snippets: int
    labels: int
    base: str
    base_sha256: str
    nf4: bool
    options: int = 0
    marginal: dict[str, Any] | None = None

    KIND = "kaggle-rag ranker"

    def write(self, folder: Path) -> None:
        """Seal the folder: the card holds the checksum of every file in it."""
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        files = seal(folder, sorted(set(names) - {CARD}))
        fields = {"kind": self.KIND, "format": FORMAT, **dataclasses.asdict(self), "files": files}
        write_json(folder / CARD, {**fields, "sha256": fields_sha256(fields)})

    @classmethod
    def read(cls, folder: Path) -> RankerCard:
        """The card of a folder whose files are unchanged since they were written.

        Raises
        ------
        CheckpointError : the folder has no ranker.
        ArtifactError : it is of a different version, or damaged.
        """
        try:
            stored: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise CheckpointError(
                "no trained ranker found",
                where=folder,
                expected=f"a folder with {CARD}, as python -m training writes it",
                cure="check the path; a bare checkpoint is read with the options form and max_tokens",
            ) from None
        except ValueError as error:
            raise ArtifactError(f"{CARD} is damaged", where=folder, cure=_COPY_AGAIN) from error
        if not isinstance(stored, dict) or (stored.get("kind"), stored.get("format")) != (cls.KIND, FORMAT):
            raise ArtifactError(
                f"{CARD} is from a different version of the kit", where=folder, expected=f"format {FORMAT}",
                cure="train the ranker with this version, or answer with the version that trained it",
            )  # fmt: skip
        checksum = stored.pop("sha256", None)
        if checksum != fields_sha256(stored):
            raise ArtifactError(f"{CARD} was changed after it was written", where=folder, cure=_COPY_AGAIN)
        verify(folder, stored.pop("files"), of="ranker")
        # The previous version called them chunks.
        stored.setdefault("snippets", stored.get("chunks"))
        stored.setdefault("options", 0)
        stored.setdefault("marginal", None)
        fields = {field.name: stored[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**fields, "layout": Layout(**fields["layout"])})


_COPY_AGAIN = "copy the folder again from where it was trained"


def require_base(name: str, card: RankerCard) -> None:
    """Raise ``CheckpointError`` unless ``name`` is the backbone that an adapter was trained on, whole."""
    try:
        checkpoint = resolve(name)
    except CheckpointError as error:
        if error.where:
            # It is here, and a file of it is missing.
            raise
        raise CheckpointError(
            f"the adapter's backbone {name!r} is not on this machine",
            expected=error.expected,
            cure="attach it, or set its location: options.base of the ranker, --base of merge",
        ) from error
    if (checksum := checkpoint.sha256) != card.base_sha256:
        require_whole(checkpoint.path)
        raise CheckpointError(
            "the adapter was trained on a different backbone",
            where=name,
            expected=f"{card.base!r} with weights sha256 {card.base_sha256[:16]}…, found {checksum[:16]}…",
            cure="set the folder of the right one: options.base of the ranker",
        )
