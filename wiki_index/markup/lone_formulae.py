"""Formulae on lines of their own, which belong to the sentence before them."""

from __future__ import annotations

from collections.abc import Iterable

# What a line begins with that holds nothing but formulae.
ALONE = "\0"


def joined(lines: Iterable[str]) -> list[str]:
    """The lines, each formula behind its sentence: ``The energy is`` and ``E = h ν`` are one.

    So is what goes on after it: ``where h is Planck's constant``. Headings stay on their own.
    """
    text: list[list[str]] = []
    formula = False
    for line in lines:
        if not line.strip(ALONE):
            continue
        is_formula = line[0] == ALONE
        continues = formula and (line[0].islower() or line[0] in ",.;")
        if text and (is_formula or continues) and not text[-1][-1].startswith("="):
            text[-1].append(line.removeprefix(ALONE))
        else:
            text.append([line.removeprefix(ALONE)])
        formula = is_formula
    return [" ".join(parts) for parts in text]
