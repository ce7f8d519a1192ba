"""``ranker.json``: what a folder of weights needs beside them to answer questions again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.models.layouts import Layout
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
    layout : the texts that options were laid out in.
    max_tokens, snippets : longest row, and snippets of a context that were read in training (0: all).
    labels : of a binary head; 2 where it hears of the other options too.
    base, base_sha256 : the backbone an adapter belongs to; empty where the weights are whole.
    nf4 : whether the backbone was in 4 bits when the adapter was trained.
    """

    form: str
    layout: Layout
    max_tokens: int
    snippets: int
    labels: int
    base: str
    base_sha256: str
    nf4: bool

    KIND = "kaggle-rag ranker"

    def write(self, folder: Path) -> None:
        """Seal the folder: the card holds the checksum of every file in it."""
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        files = seal(folder, sorted(set(names) - {CARD}))
        fields = {"kind": self.KIND, "format": FORMAT, **dataclasses.asdict(self), "files": files}
        write_json(folder / CARD, {**fields, "sha256": fields_sha256(fields)})

    @classmethod
    def read(cls, folder: Path) -> RankerCard:
        """The card of a folder whose files are as they were written.

        Raises
        ------
        CheckpointError : no ranker is there.
        ArtifactError : it is of another version, or damaged.
        """
        try:
            found: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise CheckpointError(
                "no trained ranker is there",
                where=folder,
                expected=f"a folder with {CARD}, as python -m training writes it",
                cure="check the path; a bare checkpoint is read with the options form and max_tokens",
            ) from None
        except ValueError as error:
            raise ArtifactError(f"{CARD} is damaged", where=folder, cure=_AGAIN) from error
        if not isinstance(found, dict) or (found.get("kind"), found.get("format")) != (cls.KIND, FORMAT):
            raise ArtifactError(
                f"{CARD} is not of this version of the kit", where=folder, expected=f"format {FORMAT}",
                cure="train the ranker by this version, or answer by the kit that trained it",
            )  # fmt: skip
        own = found.pop("sha256", None)
        if own != fields_sha256(found):
            raise ArtifactError(f"{CARD} was changed after it was written", where=folder, cure=_AGAIN)
        verify(folder, found.pop("files"), of="ranker")
        # The version before called them chunks.
        found.setdefault("snippets", found.get("chunks"))
        fields = {field.name: found[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**fields, "layout": Layout(**fields["layout"])})


_AGAIN = "copy the folder again from where it was trained"


def require_base(name: str, card: RankerCard) -> None:
    """Raise ``CheckpointError`` unless ``name`` is the backbone that an adapter was trained on."""
    try:
        found = resolve(name).sha256
    except CheckpointError as error:
        raise CheckpointError(
            f"the adapter's backbone {name!r} is not on this machine",
            expected=error.expected,
            cure="attach it, or say where it lies: options.base of the ranker, --base of merge",
        ) from error
    if found != card.base_sha256:
        raise CheckpointError(
            "the adapter was trained on another backbone",
            where=name,
            expected=f"{card.base!r} with weights sha256 {card.base_sha256[:16]}…, found {found[:16]}…",
            cure="give the folder of the right one: options.base of the ranker",
        )
