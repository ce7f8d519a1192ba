"""Several faults reported at once, so that the user can fix them in one go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kaggle_rag.runtime.errors import KitError, as_fault


class Faults(KitError):
    """The faults of several checks, in one message."""

    def __init__(self, faults: Sequence[KitError]) -> None:
        super().__init__(f"{len(faults)} things must be fixed:")
        self.faults = tuple(faults)
        message = "\n".join(f"* {fault}".replace("\n", "\n  ") for fault in faults)
        self.args = (f"{self.args[0]}\n{message}",)


class Gathered:
    """Collects the faults of checks that each run even if another fails."""

    def __init__(self) -> None:
        self.faults: list[KitError] = []

    @contextmanager
    def check(self) -> Iterator[None]:
        """Record the faults of the block, each once, and continue after it."""
        try:
            yield
        except Faults as several:
            self.add(several.faults)
        except KitError as error:
            self.add([error])
        except OSError as error:
            self.add([as_fault(error)])

    def add(self, faults: Sequence[KitError]) -> None:
        """Record faults that are not recorded yet."""
        for fault in faults:
            if str(fault) not in map(str, self.faults):
                self.faults.append(fault)

    def tell(self) -> None:
        """Raise a single fault as it is, several as `Faults`, and nothing if there are none."""
        if len(self.faults) == 1:
            raise self.faults[0]
        if self.faults:
            raise Faults(self.faults)
