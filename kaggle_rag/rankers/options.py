"""Values that a ranker's options may have, checked one by one."""

from __future__ import annotations

from kaggle_rag.runtime.errors import ConfigError


def require_switches(**given: object) -> None:
    """Raise ``ConfigError`` for an option that is neither true nor false."""
    for name, value in given.items():
        if not isinstance(value, bool):
            raise ConfigError(
                f"not a yes or no: {value!r}",
                where=f"rankers.options.{name}",
                expected="true or false",
            )


def require_counts(**given: tuple[int | None, int]) -> None:
    """Raise ``ConfigError`` for a number below its minimum."""
    for name, (number, minimum) in given.items():
        if number is not None and number < minimum:
            raise ConfigError(f"{number}", where=f"rankers.options.{name}", expected=f"{minimum} or more")
