"""One rule for turning a table cell into text, for every table that the kit reads.

===========================================  =====================================================
the cell                                     its text
===========================================  =====================================================
text                                         itself
null, NaN                                    none: the cell is empty
a whole number, of whatever type             without a point: ``0``, even if pandas made it 0.0
another number                               the shortest text that is that number in its own
                                             precision: ``0.1``, even if it is a float32
a decimal                                    its own digits: ``1.50``
true, false                                  ``True``, ``False``
a date, a time                               in ISO 8601 form, with a space between the two
bytes                                        read as UTF-8; refused if they are not
a list of texts                              its texts, one per line
a structure, a map, another list, the rest   refused by file, row and column
===========================================  =====================================================
"""

from __future__ import annotations

import datetime
import decimal
import math
from typing import Any

import numpy as np

from kaggle_rag.runtime.errors import InputError

# Above this, a float64 cannot represent every whole number.
LARGEST_WHOLE = 2**53
_RULE = "text, a number, a date, true or false, bytes in UTF-8, or a list of texts"


def text_of(cell: Any, where: str) -> str | None:
    """The text of a cell by the rule of this module; ``None`` if the cell is empty.

    Raises
    ------
    InputError : the cell has no single text form; ``where`` names its file, row and column.
    """
    if isinstance(cell, str):
        return cell
    if isinstance(cell, (list, tuple)):
        return _lines(cell, where)
    return _scalar(cell, where)


def number_text(value: float) -> str:
    """The shortest text of a float64; a whole one without a point, even ``-0.0``."""
    if math.isfinite(value) and value == int(value) and abs(value) <= LARGEST_WHOLE:
        return str(int(value))
    return repr(float(value))


def shortest(value: float | None, precision: type[np.floating[Any]]) -> float | None:
    """The float64 whose shortest text is that of ``value`` in a smaller precision: 0.1 for float32's 0.1."""
    return None if value is None else float(str(precision(value)))


def _scalar(cell: Any, where: str) -> str | None:
    # pandas marks an empty cell by NaN, and an empty date by NaT, which is not equal to itself either.
    if cell is None or cell != cell:
        return None
    if isinstance(cell, float):
        return number_text(cell)
    if isinstance(cell, (bool, int)):
        return str(cell)
    if isinstance(cell, decimal.Decimal):
        return format(cell, "f")
    if isinstance(cell, datetime.datetime):
        return cell.isoformat(sep=" ")
    if isinstance(cell, (datetime.date, datetime.time)):
        return cell.isoformat()
    if isinstance(cell, bytes):
        return _decoded(cell, where)
    raise _refused(f"the cell holds a {_name(cell)}", where)


def _lines(cells: list[Any] | tuple[Any, ...], where: str) -> str | None:
    """Texts as lines, without missing ones."""
    for cell in cells:
        if cell is not None and not isinstance(cell, (str, bytes)):
            raise _refused(f"the cell holds a list with an item that is not text ({_name(cell)})", where)
    texts = [cell if isinstance(cell, str) else _decoded(cell, where) for cell in cells if cell is not None]
    return "\n".join(texts) if texts else None


def _decoded(cell: bytes, where: str) -> str:
    try:
        return cell.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(f"the cell holds bytes that are not UTF-8 text ({error.reason})", where) from error


def _name(cell: Any) -> str:
    return {"dict": "structure"}.get(type(cell).__name__, type(cell).__name__)


def _refused(what: str, where: str) -> InputError:
    return InputError(
        what, where=where, expected=_RULE, cure="convert the column to text before writing the file"
    )
