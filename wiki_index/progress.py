"""How much of a corpus a build has read, in a form stored with every shard."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.text.cleaning import SECTION
from wiki_index.markup.wikitext import BLOCK

# 30 bytes per name in each shard of 16,384 passages.
_NAMES = 300
OTHER_TEMPLATES, OTHER = "other templates", "others"
# How many of each kind `left_out_lines` lists.
_SHOWN = 6


@dataclasses.dataclass
class Seen:
    """What has been read of a corpus: records, the articles among them, and what holds no passage."""

    records: int = 0
    articles: int = 0
    skipped: dict[str, int] = dataclasses.field(default_factory=lambda: {"empty": 0})
    left_out: dict[str, int] = dataclasses.field(default_factory=dict)
    """Counts of what was left out of articles, by name; see `leave_out`."""

    def skip(self, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def leave_out(self, counts: Mapping[str, int]) -> None:
        """Add what one article left out.

        Only the first ``_NAMES`` names are counted separately, since every shard stores them all; the
        rest are counted by kind.
        """
        for name, count in counts.items():
            if name not in self.left_out and len(self.left_out) >= _NAMES:
                name = OTHER_TEMPLATES if name.startswith("{{") else OTHER
            self.left_out[name] = self.left_out.get(name, 0) + count

    def notes(self) -> dict[str, str]:
        """As stored in a shard, so that a resumed build counts what came before."""
        fields = {**dataclasses.asdict(self), "skipped": dict(sorted(self.skipped.items()))}
        return {name: json.dumps(value) for name, value in fields.items()}

    @classmethod
    def of_notes(cls, notes: dict[bytes, bytes], path: Path) -> Seen:
        try:
            return cls(
                **{field.name: json.loads(notes[field.name.encode()]) for field in dataclasses.fields(cls)}
            )
        except KeyError as error:
            raise of_another_version(path) from error


def of_another_version(path: Path) -> ArtifactError:
    """The error for a work folder whose files hold other fields than this version writes."""
    return ArtifactError(
        "an unfinished build by another version of the kit already exists",
        where=path,
        cure="choose another OUT, or remove that folder to start over",
    )


def left_out_lines(left_out: Mapping[str, int]) -> str:
    """Lines listing what was left out of the articles, the most frequent of each kind first."""
    kinds: dict[str, dict[str, int]] = {}
    for name, count in left_out.items():
        kinds.setdefault(_kind(name), {})[name] = count
    return "\n".join(_line(kind, kinds[kind]) for kind in sorted(kinds, key=_ORDER.index))


_INSIDE, _BLOCKS, _SECTIONS, _ELSE = "templates in sentences", "templates on their own", "sections", "else"
_ORDER = [_INSIDE, _BLOCKS, _SECTIONS, _ELSE]


def _kind(name: str) -> str:
    if name.startswith("{{"):
        return _BLOCKS if name.endswith(BLOCK) else _INSIDE
    return _SECTIONS if name.startswith(SECTION) else _ELSE


def _line(kind: str, counts: dict[str, int]) -> str:
    """``left out, sections: References 9,876 times, 4 others 120 times``."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    names = [
        f"{name.removesuffix(BLOCK).removeprefix(SECTION)} {_times(count)}" for name, count in ranked[:_SHOWN]
    ]
    if rest := ranked[_SHOWN:]:
        names.append(f"{len(rest):,} others {_times(sum(count for _, count in rest))}")
    return f"left out, {kind}: {', '.join(names)}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
