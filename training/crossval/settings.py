"""The settings of a cross-validation, and what a diagnosis can withhold."""

from __future__ import annotations

import dataclasses
from pathlib import Path

# Names of the mixes of all rankers in the tables.
BLEND, STACKED = "blend", "stack"


@dataclasses.dataclass(frozen=True)
class CrossValidationSettings:
    """What the user requests; see the flags of ``python -m training cross-validate``."""

    solution: Path
    questions: Path | None = None
    contexts: Path | None = None
    out: Path | None = None
    folds: int = 5
    fold: int | None = None
    seed: int = 0
    alike: str = "words+vectors"
    against: tuple[Path, ...] = ()
    stack: str | None = None
    changes: tuple[str, ...] = ()
    final: bool = False
    calibration: str = "temperature"

    @property
    def folder(self) -> Path:
        return self.out or Path("runs") / self.solution.stem


# What the model without the input may not read, and what the information then measures.
WITHHELD = {
    "contexts": "what contexts add to prompt and options (default with contexts)",
    "question": "what prompt and contexts add to the options alone (default without contexts)",
    "all": "what the whole input adds to chance (needs no training, as options are exchangeable)",
}
