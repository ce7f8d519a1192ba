"""Several faults told at once, so that the user mends them in one go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kaggle_rag.runtime.errors import KitError, as_fault


class Faults(KitError):
    """What several checks found, in one message."""

    def __init__(self, faults: Sequence[KitError]) -> None:
        super().__init__(f"{len(faults)} things must be fixed:")
        told = "\n".join(f"* {fault}".replace("\n", "\n  ") for fault in faults)
        self.args = (f"{self.args[0]}\n{told}",)


class Gathered:
    """Faults of checks that each go on after the other's failure."""

    def __init__(self) -> None:
        self.faults: list[KitError] = []

    @contextmanager
    def check(self) -> Iterator[None]:
        """Keep the fault of the block, once, and go on behind it."""
        try:
            yield
        except (KitError, OSError) as found:
            error = found if isinstance(found, KitError) else as_fault(found)
            if str(error) not in map(str, self.faults):
                self.faults.append(error)

    def tell(self) -> None:
        """Raise the only fault as it is, several as `Faults`, nothing where all is well."""
        if len(self.faults) == 1:
            raise self.faults[0]
        if self.faults:
            raise Faults(self.faults)
