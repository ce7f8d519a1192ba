"""What a program prints while it works: lines, and progress as a bar or a line every ten seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

from kaggle_rag.runtime.processes import is_first

Bar = tqdm
Item = TypeVar("Item")
# Seconds between two lines.
_EVERY = 10.0


class Lines(tqdm):  # type: ignore[misc]
    """tqdm whose display is one line every ten seconds, with the remaining time.

    Work of less than ten seconds prints nothing; longer work reports its end.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        # Each update checks the clock: tqdm's own guess of how many updates to skip makes lines late.
        super().__init__(*args, **{**options, "mininterval": _EVERY, "miniters": 1})

    disable: bool
    # Until tqdm sets it, at the end of its own __init__, nothing is due.
    start_t = float("inf")
    _printed, _printed_at = 0.0, 0

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Print the line if ten seconds have passed since the last one, or since the start."""
        if self._time() - max(self.start_t, self._printed) >= _EVERY:
            self._print_line()
        return True

    def clear(self, nolock: bool = False) -> None:
        """A line of a log stays where it is."""

    def close(self) -> None:
        """Report that all is done, if an earlier line said that it was not."""
        if self.disable:
            return
        self.disable = True
        self._decr_instances(self)
        if self._printed and self._printed_at < self.n == self.total:
            self._print_line()

    def _print_line(self) -> None:
        self._printed, self._printed_at = self._time(), self.n
        print(self.line(), file=self.fp, flush=True)

    def line(self) -> str:
        """How much is done, how long it took, how long the rest will take at that pace."""
        passed, done = self._time() - self.start_t, self.n - self.initial
        if not self.total:
            return f"{self.desc}: {self._count(self.n)}, {self.format_interval(passed)} so far"
        share = f"{self._number(self.n)} of {self._count(self.total)}"
        more = f", {self.postfix}" if self.postfix else ""
        line = f"{self.desc}: {self.n / self.total:.0%}, {share}{more}, {self.format_interval(passed)} so far"
        if done > 0 and self.n < self.total:
            line += f", about {self.format_interval((self.total - self.n) * passed / done)} to go"
        return line

    def _number(self, number: float) -> str:
        if self.unit_scale:
            return f"{self.format_sizeof(number, divisor=self.unit_divisor)}{self.unit}"
        return f"{number:,.0f}"

    def _count(self, number: float) -> str:
        many = "" if self.unit_scale else f" {self.unit}" + "s" * (number != 1)
        return self._number(number) + many


# The bar that is shown; what runs inside of it shows none of its own.
_shown: list[tqdm] = []


@contextmanager
def overall(
    total: float, name: str, unit: str, *, initial: int = 0, disable: bool = False
) -> Iterator[tqdm]:
    """A bar over work whose parts have bars too: this one is shown, and theirs are not."""
    with progress(total, name, unit, initial=initial, disable=disable) as bar:
        _shown.append(bar)
        try:
            yield bar
        finally:
            _shown.remove(bar)


def bar_class() -> Any:
    """tqdm on a terminal, where it can redraw its line; else `Lines`."""
    return tqdm if sys.stderr is not None and sys.stderr.isatty() else Lines


def progress(
    total: float | None, name: str, unit: str, *, initial: int = 0, disable: bool = False, **options: Any
) -> tqdm:
    """A bar over ``total`` units on a terminal, else lines; ``options`` are tqdm's.

    Its ``update(n)`` is called as work is done; used in a ``with`` block, or closed.
    """
    hidden = disable or bool(_shown)
    return bar_class()(total=total, desc=name, unit=unit, initial=initial, disable=hidden, **options)


def over(items: Iterable[Item], name: str, unit: str) -> Iterable[Item]:
    """The items themselves, with the same display of how many were taken."""
    shown: Iterable[Item] = bar_class()(items, desc=name, unit=unit)
    return shown


def say(line: str) -> None:
    """Print a line to stderr: stdout is for the result."""
    if is_first():
        print(line, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """A duration in human-readable form."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def bar(name: str, total: int) -> tqdm:
    """A bar over texts, removed when it is full; in a log, lines if it takes long."""
    return progress(total, name, "text", leave=False)
