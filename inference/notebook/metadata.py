"""The two files by which Kaggle knows a dataset and a notebook, within its limits.

Limits and keys: https://github.com/Kaggle/kaggle-cli/tree/main/docs (datasets_metadata.md,
kernels_metadata.md), checked 2026-11.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.faults import Gathered

# Bytes that a dataset may have.
MOST = 200 * 10**9
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SUBTITLE = "What a notebook without internet needs to answer the questions"
_SUFFIX = "-notebook"


@dataclasses.dataclass(frozen=True)
class Names:
    """What a dataset and its notebook are called.

    Attributes
    ----------
    owner : the user's or organisation's name in addresses.
    slug : of the dataset: 3 to 50 lower-case letters, digits and single dashes.
    title : of the dataset: 6 to 50 characters (default: the slug in words).
    competition : slug of the competition whose questions are answered.
    """

    owner: str
    slug: str
    title: str = ""
    competition: str = ""

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.slug.replace("-", " "))

    @property
    def id(self) -> str:
        """The dataset, as ``owner/slug``."""
        return f"{self.owner}/{self.slug}"

    @property
    def notebook(self) -> str:
        """Slug of the notebook; Kaggle makes it of a title of at least 5 characters."""
        return self.slug if len(self.slug) >= 5 else self.slug + _SUFFIX

    def require(self) -> None:
        """Raise ``Faults`` or ``ConfigError`` if Kaggle would refuse a name."""
        gathered = Gathered()
        self.check(gathered)
        gathered.tell()

    def check(self, gathered: Gathered) -> None:
        """Add each name that Kaggle would refuse."""
        with gathered.check():
            _require_slug("--owner", self.owner.lower(), 1)
        with gathered.check():
            _require_slug("--slug", self.slug, 3, 50)
        if self.competition:
            with gathered.check():
                _require_slug("--competition", self.competition, 1)
        with gathered.check():
            if not 6 <= len(self.title) <= 50:
                raise ConfigError(
                    f"{self.title!r} has {len(self.title)} characters", where="--title",
                    expected="6 to 50 characters", cure="choose another --title",
                )  # fmt: skip


def _require_slug(flag: str, name: str, least: int, most: int | None = None) -> None:
    if not (len(name) >= least and len(name) <= (most or len(name)) and _SLUG.fullmatch(name)):
        count = f"{least} to {most} " if most else ""
        raise ConfigError(
            f"{name!r} cannot be part of an address of Kaggle", where=flag,
            expected=count + "lower-case letters, digits and single dashes between them",
        )  # fmt: skip


def dataset_metadata(names: Names) -> dict[str, Any]:
    """``dataset-metadata.json``."""
    # The index, the models and the kit each have their own licence, and Kaggle takes exactly one.
    return {
        "title": names.title, "id": names.id, "subtitle": _SUBTITLE, "licenses": [{"name": "other"}],
    }  # fmt: skip


def kernel_metadata(names: Names, datasets: list[str], *, gpu: bool) -> dict[str, Any]:
    """``kernel-metadata.json`` of a notebook that reads these ``datasets``, ``owner/slug``."""
    metadata: dict[str, Any] = {
        "id": f"{names.owner}/{names.notebook}",
        # A title that makes another slug than that of the id would make another notebook.
        "title": names.notebook.replace("-", " "),
        "code_file": f"{names.notebook}.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": gpu,
        # Always written: the client's own default is true, and a notebook with internet cannot be submitted.
        "enable_internet": False,
        "dataset_sources": datasets,
        "competition_sources": [names.competition] if names.competition else [],
        "kernel_sources": [],
        "model_sources": [],
        "docker_image_pinning_type": "original",
    }
    if gpu:
        # Two T4; without it Kaggle may give a P100, which current versions of torch do not support.
        metadata["machine_shape"] = "NvidiaTeslaT4"
    return metadata
