"""How much of a corpus a build has read, in a form that every shard carries."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from kaggle_rag.errors import ArtifactError


@dataclasses.dataclass
class Seen:
    """What has been read of a corpus: records, the articles among them, and what holds no passage."""

    records: int = 0
    articles: int = 0
    skipped: dict[str, int] = dataclasses.field(default_factory=lambda: {"empty": 0})

    def skip(self, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def notes(self) -> dict[str, str]:
        """As a shard keeps it, so that a build that goes on counts what came before."""
        fields = {**dataclasses.asdict(self), "skipped": dict(sorted(self.skipped.items()))}
        return {name: json.dumps(value) for name, value in fields.items()}

    @classmethod
    def of_notes(cls, notes: dict[bytes, bytes], path: Path) -> Seen:
        try:
            return cls(
                **{field.name: json.loads(notes[field.name.encode()]) for field in dataclasses.fields(cls)}
            )
        except KeyError as error:
            raise ArtifactError(
                "an unfinished build by another version of the kit is there",
                where=path,
                cure="choose another OUT, or remove that folder to start over",
            ) from error
