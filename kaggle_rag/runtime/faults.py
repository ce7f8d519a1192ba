"""Several faults told at once, so that the user mends them in one go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kaggle_rag.runtime.errors import KitError, as_fault


class Faults(KitError):
    """What several checks found, in one message."""

    def __init__(self, faults: Sequence[KitError]) -> None:
        super().__init__(f"{len(faults)} things must be fixed:")
        self.faults = tuple(faults)
        told = "\n".join(f"* {fault}".replace("\n", "\n  ") for fault in faults)
        self.args = (f"{self.args[0]}\n{told}",)


class Gathered:
    """Faults of checks that each go on after the other's failure."""

    def __init__(self) -> None:
        self.faults: list[KitError] = []

    @contextmanager
    def check(self) -> Iterator[None]:
        """Keep the faults of the block, each once, and go on behind it."""
        try:
            yield
        except Faults as several:
            self.add(several.faults)
        except KitError as error:
            self.add([error])
        except OSError as error:
            self.add([as_fault(error)])

    def add(self, faults: Sequence[KitError]) -> None:
        """Keep faults that are not there yet."""
        self.faults += [fault for fault in faults if str(fault) not in map(str, self.faults)]

    def tell(self) -> None:
        """Raise the only fault as it is, several as `Faults`, nothing where all is well."""
        if len(self.faults) == 1:
            raise self.faults[0]
        if self.faults:
            raise Faults(self.faults)
