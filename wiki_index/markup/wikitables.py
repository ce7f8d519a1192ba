"""Tables of wikitext as lines: ``Element: Iron; Symbol: Fe; Melting point: 1811 K``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kaggle_rag.text.template_parts import BAR

_START = re.compile(r"[ \t:*#]*\{\|(.*)")
_NOT_PROSE = re.compile(
    r"\b(?:class|id)\s*=\s*(?:\"[^\"]*|'[^']*|)\b(infobox|navbox|vertical-navbox|sidebar|metadata|toc|ambox)\b",
    re.IGNORECASE,
)
# Attributes have no bar before a template that supplies it. Such a template has expanded to nothing,
# or to something that begins with a mark for the bar.
GONE = "\x04"
_ATTRIBUTES = re.compile(
    rf"\s*(?:[\w-]+\s*=\s*(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s\"'|{GONE}{BAR}]+)\s*|nowrap\b\s*)+(?=[{GONE}{BAR}])",
    re.IGNORECASE,
)
_SPAN = re.compile(r"\b(col|row)span\s*=\s*[\"']?\s*(\d{1,3})", re.IGNORECASE)
# What is repeated next to every cell must stay short, or a page of a megabyte becomes gigabytes.
_HEADER, _REPEATED, _ROWS, _COLUMNS, _DEPTH = 80, 60, 50, 60, 10


class Cell:
    """A cell, the columns and rows that it covers, its text line by line, and tables inside it."""

    def __init__(self, text: str, is_header: bool, columns: int = 1, rows: int = 1) -> None:
        self.is_header = is_header
        self.columns = min(max(columns, 1), _COLUMNS)
        self.rows = min(max(rows, 1), _ROWS)
        self.lines = [text]
        self.beneath: list[str] = []

    @classmethod
    def parse(cls, content: str, is_header: bool) -> Cell:
        attributes, bar, text = content.partition("|")
        if not bar:
            match = _ATTRIBUTES.match(content)
            attributes, text = (match[0], content[match.end() :]) if match else ("", content)
        spans = {kind.lower(): int(count) for kind, count in _SPAN.findall(attributes)}
        return cls(text, is_header, spans.get("col", 1), spans.get("row", 1))

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.lines).split())


class WikiTable:
    """A table being read: its rows of cells; a caption is a row of one cell."""

    def __init__(self, attributes: str = "") -> None:
        box = _NOT_PROSE.search(attributes)
        self.box = box[1].lower() if box else ""
        """The kind of box, if the table is not prose."""
        self.rows: list[list[Cell]] = [[]]

    def add(self, line: str) -> None:
        """Add one line of wikitext."""
        mark = line.lstrip()
        if mark.startswith("|-"):
            self.rows.append([])
        elif mark.startswith("|+"):
            self.rows += [[Cell.parse(mark[2:], is_header=False)], []]
        elif mark[:1] in ("|", "!"):
            is_header = mark[0] == "!"
            cells = mark[1:].replace("!!", "||") if is_header else mark[1:]
            self.rows[-1] += [Cell.parse(cell, is_header) for cell in cells.split("||")]
        else:
            self.extend_cell(line)

    def extend_cell(self, line: str) -> None:
        """Add a line to the cell before it."""
        self.last_cell().lines.append(line.lstrip("*#:; \t"))

    def last_cell(self) -> Cell:
        """The cell that is being read (an unnamed one, where a table does not start with a cell)."""
        row = next((row for row in reversed(self.rows) if row), self.rows[0])
        if not row:
            row.append(Cell("", is_header=False))
        return row[-1]

    def lines(self) -> Iterator[str]:
        """The rows as lines, each cell after the name of its column."""
        above: dict[int, tuple[int, str]] = {}
        rows = [(row, _placed(row, above)) for row in self.rows if row]
        heads, first = _heads(rows)
        content = [line for row, placed in rows[first:] for line in _row_lines(row, placed, heads)]
        for row, placed in rows[:first]:
            # A caption precedes the headers; headers without content below are content.
            if len(row) == 1 or not content:
                yield from _row_lines(row, placed, {})
        yield from content


def _row_lines(row: list[Cell], placed: list[_Placed], heads: dict[int, str]) -> Iterator[str]:
    names = heads if len(row) > 1 else {}
    if line := "; ".join(_named(names.get(cell.column, ""), cell.text) for cell in placed if cell.text):
        yield line
    for cell in row:
        yield from cell.beneath


class _Placed(NamedTuple):
    column: int
    width: int
    text: str


def _placed(row: list[Cell], above: dict[int, tuple[int, str]]) -> list[_Placed]:
    """The cells of a row in their columns, including those that reach down from the rows above.

    ``above`` holds, for each covered column, the number of rows still covered and the text there.
    """
    placed = [_Placed(column, 1, text) for column, (_, text) in above.items()]
    covered = set(above)
    for column, (rows, text) in list(above.items()):
        if rows > 1:
            above[column] = (rows - 1, text)
        else:
            del above[column]
    column = 0
    for cell in row:
        while column in covered:
            column += 1
        placed.append(_Placed(column, cell.columns, cell.text))
        if cell.rows > 1 and column < _COLUMNS:
            repeated = cell.text if len(cell.text) <= _REPEATED else ""
            for beneath in range(column, column + cell.columns):
                above[beneath] = (cell.rows - 1, repeated if beneath == column else "")
        column += cell.columns
    return sorted(placed)


def _heads(rows: list[tuple[list[Cell], list[_Placed]]]) -> tuple[dict[int, str], int]:
    """The name of each column, and the number of header rows at the top."""
    heads: dict[int, str] = {}
    in_headers = True
    for number, (row, placed) in enumerate(rows):
        if len(row) == 1 and not heads:
            continue
        if not (in_headers and all(cell.is_header for cell in row)):
            return heads, number
        # A second row of headers follows cells that span columns; otherwise it is content.
        in_headers = any(cell.columns > 1 for cell in row)
        for column, width, text in placed:
            for covered in range(column, min(column + width, _COLUMNS)):
                if text != heads.get(covered):
                    name = f"{heads.get(covered, '')} {text}".strip()
                    heads[covered] = name if len(name) <= _HEADER else ""
    return heads, len(rows)


def _named(head: str, text: str) -> str:
    # "Pop.: 291" would look like the page of a reference.
    head = head.rstrip(".: ")
    return f"{head}: {text}" if head and head != text else text


def without_tables(lines: Iterable[str], left_out: Counter[str]) -> Iterator[str]:
    """Yield lines in order, with each table in its place as lines of ``header: cell; …``.

    A table that never closes ends before the next heading; infoboxes and the like are dropped and
    counted in ``left_out``.
    """
    open_tables: list[WikiTable] = []
    for line in lines:
        if open_tables and line.startswith("=="):
            yield from _closed(open_tables, depth=0)
        if (start := _START.match(line)) and len(open_tables) < _DEPTH:
            open_tables.append(WikiTable(start[1]))
        elif not open_tables:
            yield line
        elif line.lstrip().startswith("|}"):
            yield from _close(open_tables, line.lstrip()[2:], left_out)
        else:
            open_tables[-1].add(line)
    yield from _closed(open_tables, depth=0)


def _close(open_tables: list[WikiTable], rest: str, left_out: Counter[str]) -> Iterator[str]:
    table = open_tables.pop()
    rows = iter(()) if table.box else table.lines()
    if table.box:
        left_out[f"{{| {table.box} |}}"] += 1
    if not open_tables:
        yield from rows
        yield rest
    else:
        open_tables[-1].last_cell().beneath += rows
        open_tables[-1].extend_cell(rest)


def _closed(open_tables: list[WikiTable], depth: int) -> Iterator[str]:
    """Lines of the tables that never close, the outermost first."""
    for table in open_tables[depth:]:
        yield from table.lines()
    del open_tables[depth:]
