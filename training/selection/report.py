"""What was chosen of a pool and what was not, as text and as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from kaggle_rag.runtime.console import duration
from kaggle_rag.runtime.words import counted
from training.selection.pool import Disagreement, Pool, Rows, Sifted
from training.selection.rules import Choice

_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class SelectionReport:
    """A choice from a pool.

    Attributes
    ----------
    choice : ``None`` in a dry run.
    specifications : their names; empty where a data map chose.
    by : what the scores are.
    budget : how many questions are chosen, or would be.
    seconds : how long a dry run expects the ranking to take; ``None`` unless it is one.
    """

    pool: Pool
    sifted: Sifted
    choice: Choice | None
    specifications: tuple[str, ...]
    by: str
    budget: int
    seconds: float | None = None

    @property
    def rows(self) -> Rows:
        return self.choice.rows if self.choice else np.zeros(0, dtype=np.int64)

    def covered(self) -> int:
        """How many specifications chose a question."""
        return len({*self.choice.specification.tolist()} - {-1}) if self.choice else 0

    def disagreements(self) -> dict[str, tuple[Disagreement, ...]]:
        return {
            "labels that contradict a specification": self.sifted.against_specifications,
            "labels that contradict another question of the pool": self.sifted.within,
        }

    def as_json(self) -> dict[str, Any]:
        left, chosen = self.pool.counts(self.sifted.rows), self.pool.counts(self.rows)
        # What was drawn at random has none.
        scores = self.choice.scores[~np.isnan(self.choice.scores)] if self.choice else ()
        return {
            "sets": {
                name: {"questions": size, "left": left[name], "selected": chosen[name]}
                for name, size in zip(self.pool.names, self.pool.sizes)
            },
            "left out": {"repeat other files": self.sifted.leaks, "repeat others": self.sifted.copies},
            "budget": self.budget,
            "specifications": len(self.specifications),
            "specifications that chose": self.covered(),
            "score": self.by,
            "scores": [round(float(value), 4) for value in (min(scores), max(scores))] if len(scores) else [],
            "seconds": self.seconds,
            **{
                name: [{k: v for k, v in each._asdict().items() if not k.endswith("row")} for each in found]
                for name, found in self.disagreements().items()
            },
        }  # fmt: skip

    def text(self) -> str:
        told = self.as_json()
        wide = max(map(len, ("set", *self.pool.names)))
        lines = [f"{'set':<{wide}}  questions    left  selected"]
        for name, each in told["sets"].items():
            lines.append(f"{name:<{wide}}  {each['questions']:>9,}{each['left']:>8,}{each['selected']:>10,}")
        lines.append(
            f"left out: {self.sifted.leaks:,} that repeat a specification or an excluded question, "
            f"{self.sifted.copies:,} that repeat another of the pool"
        )
        if self.seconds is not None:
            lines.append(
                f"{self.budget:,} would be selected, in about {duration(self.seconds)}. Nothing was written."
            )
        elif told["scores"]:
            low, high = told["scores"]
            lines.append(f"{self.budget:,} selected, {self.by} from {low:.3f} to {high:.3f}")
        elif self.choice:
            lines.append(f"{self.budget:,} selected, at random")
        if self.covered():
            lines.append(
                f"{self.covered():,} of {counted(len(self.specifications), 'specification')} chose at "
                "least one"
            )
        for name, found in self.disagreements().items():
            if found:
                lines += ["", f"{name}: {len(found):,}"]
                lines += [line for each in found[:_SHOWN] for line in each.lines()]
        return "\n".join(lines)
