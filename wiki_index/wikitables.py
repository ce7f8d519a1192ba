"""Tables of wikitext as lines: ``Element: Iron; Symbol: Fe; Melting point: 1811 K``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_START = re.compile(r"[ \t:*#]*\{\|(.*)")
_NOT_PROSE = re.compile(r"\b(?:infobox|navbox|vertical-navbox|sidebar|metadata|toc|toccolours|ambox)\b", re.IGNORECASE)
_SPAN = re.compile(r"\b(col|row)span\s*=\s*[\"']?\s*(\d{1,3})", re.IGNORECASE)
# What is repeated beside every cell must stay short, or a page of a megabyte becomes gigabytes.
_HEADER, _REPEATED, _ROWS, _COLUMNS, _DEPTH = 80, 60, 50, 60, 10


class _Cell:
    def __init__(self, content: str, is_header: bool) -> None:
        attributes, bar, text = content.partition("|")
        if not bar:
            attributes, text = "", content
        spans = {kind.lower(): int(count) for kind, count in _SPAN.findall(attributes)}
        self.is_header = is_header
        self.columns = min(max(spans.get("col", 1), 1), _COLUMNS)
        self.rows = min(max(spans.get("row", 1), 1), _ROWS)
        self.lines = [text]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.lines).split())


class _Table:
    """A table that is being read: its rows of cells; a caption is a row of one cell."""

    def __init__(self, attributes: str) -> None:
        self.is_prose = not _NOT_PROSE.search(attributes)
        self.rows: list[list[_Cell]] = [[]]

    def add(self, line: str) -> None:
        mark = line.lstrip()
        if mark.startswith("|-"):
            self.rows.append([])
        elif mark.startswith("|+"):
            self.rows += [[_Cell(mark[2:], is_header=False)], []]
        elif mark[:1] in ("|", "!"):
            is_header = mark[0] == "!"
            cells = mark[1:].replace("!!", "||") if is_header else mark[1:]
            self.rows[-1] += [_Cell(cell, is_header) for cell in cells.split("||")]
        else:
            self.go_on(line)

    def go_on(self, line: str) -> None:
        """A line that belongs to the cell before it (to none, where a table starts with prose)."""
        row = next((row for row in reversed(self.rows) if row), None)
        if row is None:
            self.rows[0].append(_Cell("", is_header=False))
            row = self.rows[0]
        row[-1].lines.append(line.lstrip("*#:; \t"))

    def lines(self) -> Iterator[str]:
        heads: dict[int, str] = {}
        spanning: dict[int, tuple[int, str]] = {}
        in_head = True
        for row in self.rows:
            placed = _placed(row, spanning)
            if in_head and len(row) > 1 and all(cell.is_header for cell in row):
                for column, text in placed:
                    heads[column] = text if len(text) <= _HEADER else ""
                continue
            in_head = in_head and len(row) < 2
            named = (_named(heads.get(column, ""), text) for column, text in placed if text)
            if line := "; ".join(named if len(row) > 1 else (text for _, text in placed if text)):
                yield line


def _placed(row: list[_Cell], spanning: dict[int, tuple[int, str]]) -> list[tuple[int, str]]:
    """The texts of a row with their columns, those that reach down from the rows above among them."""
    placed: list[tuple[int, str]] = []
    column = 0
    for cell in row:
        column = _from_above(column, spanning, placed)
        text = cell.text
        placed.append((column, text))
        if cell.rows > 1 and column < _COLUMNS:
            for covered in range(column, column + cell.columns):
                repeated = text if covered == column and len(text) <= _REPEATED else ""
                spanning[covered] = (cell.rows - 1, repeated)
        column += cell.columns
    if row:
        _from_above(column, spanning, placed)
    return placed


def _from_above(column: int, spanning: dict[int, tuple[int, str]], placed: list[tuple[int, str]]) -> int:
    """Place what reaches down into this column and those behind it; give the first free column."""
    while column in spanning:
        rows, text = spanning.pop(column)
        placed.append((column, text))
        if rows > 1:
            spanning[column] = (rows - 1, text)
        column += 1
    return column


def _named(head: str, text: str) -> str:
    return f"{head}: {text}" if head and head != text else text


def without_tables(lines: Iterable[str]) -> Iterator[str]:
    """Give lines in order, with each table in its place as lines of ``header: cell; …``.

    A table that never closes ends before the next heading; infoboxes and the like are dropped.
    """
    open_tables: list[_Table] = []
    for line in lines:
        if open_tables and line.startswith("=="):
            yield from _closed(open_tables, depth=0)
        if (start := _START.match(line)) and len(open_tables) < _DEPTH:
            open_tables.append(_Table(start[1]))
        elif not open_tables:
            yield line
        elif line.lstrip().startswith("|}"):
            yield from _close(open_tables, line.lstrip()[2:])
        else:
            open_tables[-1].add(line)
    yield from _closed(open_tables, depth=0)


def _close(open_tables: list[_Table], behind: str) -> Iterator[str]:
    table = open_tables.pop()
    rows = table.lines() if table.is_prose else iter(())
    if not open_tables:
        yield from rows
        yield behind
    else:
        for row in [*rows, behind]:
            open_tables[-1].go_on(f"{row};" if row else "")


def _closed(open_tables: list[_Table], depth: int) -> Iterator[str]:
    """Lines of the tables that never close, the outermost first."""
    for table in open_tables[depth:]:
        yield from table.lines()
    del open_tables[depth:]
