"""Cells as Python's own parser reads them, with IPython's lines for the shell apart."""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

_SHELL = re.compile(r"^(\s*)(?:[\w, ]+=\s*)?(?:!|%%?(?:sh|bash|pip|conda|cd|capture|time|timeit|env)\b)(.*)")
_MAGIC = re.compile(r"^(\s*)%+\w")
_WHOLE_CELL = re.compile(r"^\s*%%(?:sh|bash|script|writefile)\b")


class Code(NamedTuple):
    """A code cell.

    Attributes
    ----------
    number : its place among the code cells, from 1.
    tree : ``None`` if it is not Python.
    shell : its lines for the shell, without ``!`` or ``%``.
    """

    number: int
    source: str
    tree: ast.Module | None
    shell: tuple[str, ...]

    @property
    def where(self) -> str:
        """How messages call it."""
        return f"cell {self.number}"

    def texts(self) -> list[str]:
        """Its literal strings, those in f-strings too but no docstrings, and its lines for the shell."""
        nodes = [*ast.walk(self.tree)] if self.tree else []
        idle = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        texts = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in idle]
        return [*(node.value for node in texts if isinstance(node.value, str)), *self.shell]


def parsed(cells: tuple[str, ...]) -> list[Code]:
    """The code cells of a notebook."""
    return [_code(number, source) for number, source in enumerate(cells, 1)]


def _code(number: int, source: str) -> Code:
    if _WHOLE_CELL.match(source):
        return Code(number, source, None, tuple(source.splitlines()))
    shell, python = [], []
    for line in source.replace("\\\n", " ").splitlines():
        found = _SHELL.match(line)
        if found:
            shell.append(line.strip().lstrip("!%"))
        # The line keeps its place, so that a block with nothing else in it stays one.
        is_magic = found or _MAGIC.match(line)
        python.append(f"{is_magic[1]}pass" if is_magic else line)
    try:
        tree = ast.parse("\n".join(python))
    except (SyntaxError, ValueError):
        return Code(number, source, None, tuple(source.splitlines()))
    return Code(number, source, tree, tuple(shell))
