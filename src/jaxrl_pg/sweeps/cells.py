"""The cells of a table of results as text: how a value is written, and how it is read again.

A spreadsheet takes a cell that begins with `=`, `+`, `-`, `@`, a tab or the end of a line for a
formula. Text that begins so is written with an apostrophe in front, which reading takes off again;
numbers are written as they are. This module needs no array library but numpy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ["line", "of_text", "typed", "written"]

# As a spreadsheet may also take their full-width forms, those too.
_FORMULA = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
_WHOLE = re.compile(r"[+-]?[0-9]{1,300}")
_SPECIAL = re.compile(r'[,"\r\n]')
_BOOLS = {"True": True, "False": False}


def line(values: Iterable[Any]) -> str:
    """Write values as a line of CSV, its end included.

    Python's `csv` before 3.13 leaves a carriage return unquoted, which then ends the line when it
    is read.
    """
    return ",".join(map(_quoted, map(written, values))) + "\n"


def written(value: Any) -> str:
    """Write a value as a cell.

    None and NaN are left empty, tuples are written like 64x64, and text that a spreadsheet would
    take for a formula begins with an apostrophe.
    """
    if isinstance(value, str):
        return f"'{value}" if value[:1] and value[0] in f"'{_FORMULA}" else value
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return ""
    if isinstance(value, list | tuple):
        return written("x".join(of_text(written(x)) for x in value))
    if isinstance(value, np.generic):
        return written(value.item())
    return repr(value) if isinstance(value, float) else str(value)


def of_text(cell: str) -> str:
    """Return the text that `written` wrote as this cell."""
    escaped = len(cell) > 1 and cell[0] == "'" and cell[1] in f"'{_FORMULA}"
    return cell[1:] if escaped else cell


def typed(cells: Sequence[str]) -> list[Any]:
    """Return a column of hyper-parameters in a type that suits all of its cells.

    They are booleans if every cell is True or False, whole numbers if every cell is one, else
    floats if every cell is a number; otherwise text, except that a cell with a whole number holds
    that number. An empty cell is None.
    """
    filled = {cell for cell in cells if cell}
    if filled <= set(_BOOLS):
        return [_BOOLS.get(cell) for cell in cells]
    if all(_WHOLE.fullmatch(cell) for cell in filled):
        return [int(cell) if cell else None for cell in cells]
    try:
        return [float(cell) if cell else None for cell in cells]
    except ValueError:
        return [int(cell) if _WHOLE.fullmatch(cell) else of_text(cell) or None for cell in cells]


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if _SPECIAL.search(cell) else cell
