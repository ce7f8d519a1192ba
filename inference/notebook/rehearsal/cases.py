"""The cases of a rehearsal: the size of the hidden test set, what is in it, and where inputs are mounted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kaggle_rag.runtime.errors import ConfigError

# By a name, the folders below /kaggle/input of a dataset and of a competition.
LAYOUTS = {
    "plain": ("{slug}", "{competition}"),
    "by kind": ("datasets/{owner}/{slug}", "competitions/{competition}"),
    "mixed": ("datasets/{owner}/{slug}", "{competition}"),
}
# What a competition is called if the notebook names none.
_NAMELESS = "the-competition"


class Mounts(NamedTuple):
    """Folders below ``/kaggle/input``."""

    dataset: str
    competition: str


def mounts(layout: str, owner: str, slug: str, competition: str) -> Mounts:
    """Where a layout of `LAYOUTS` puts the bundle and the competition's files."""
    names = {"owner": owner, "slug": slug, "competition": competition or _NAMELESS}
    return Mounts(*(pattern.format(**names) for pattern in LAYOUTS[layout]))


class Case(NamedTuple):
    """One run of the notebook.

    Attributes
    ----------
    factor : how many times the visible questions there are.
    layout : a key of `LAYOUTS`.
    odd : whether there are rows with empty and very long texts, emoji and missing options too.
    purpose : what it is for, in a few words.
    """

    name: str
    factor: int
    layout: str
    odd: bool
    purpose: str


CASES = {
    case.name: case
    for case in (
        Case("x1", 1, "plain", False, "as many questions as are visible, in another order, with new ids"),
        Case("odd", 1, "by kind", True, "empty and very long texts, emoji, missing options"),
        Case("x5", 5, "by kind", False, "5 times as many"),
        Case("x20", 20, "mixed", False, "20 times as many"),
    )
}
QUICK = "odd"


def chosen(names: Sequence[str] | None, *, quick: bool) -> list[Case]:
    """The cases of these names, or all of them; the smallest first.

    Raises
    ------
    ConfigError : no case has this name; or names and ``quick``.
    """
    if quick and names is not None:
        raise ConfigError(
            "--quick and --cases contradict each other", where="--quick", cure="leave one of them out"
        )
    if quick:
        return [CASES[QUICK]]
    if unknown := [name for name in names or () if name not in CASES]:
        raise ConfigError(
            f"no case {unknown[0]!r}",
            where="--cases",
            expected=f"some of {', '.join(CASES)}, separated by ','",
        )
    return [case for case in CASES.values() if not names or case.name in names]
