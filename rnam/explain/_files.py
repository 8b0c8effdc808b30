"""Columns of words, numbers and counts as a file that is there as a whole or not at all.

A file of version 2 says its version and has a checksum of what it holds. One that was cut or changed is refused, but
for line ends, which may become those of another system. Version 1, of rnam 0.2, has neither and is read too.

    .csv    a row of titles, the last of them `rnam.explain.Table 2 <checksum>` over empty cells. Words are quoted. One
            that a spreadsheet would take for a formula has an apostrophe in front, as has one with an apostrophe there.
            An empty cell of a number is NaN.
    .json   an object of `format`, `version`, `check` and the columns. null is NaN, and "inf" and "-inf" are in quotes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnam._files import checksum, replace, strict_json
from rnam.models.description import strings

__all__ = ["FORMAT", "VERSION", "harmless", "read", "write"]

FORMAT, VERSION = "rnam.explain.Table", 2

Kinds = Mapping[str, str]  # what each column holds: "words", "numbers" or "counts"
Cells = dict[str, list[Any]]  # of words str; of numbers float, "inf", "-inf" or None for NaN; of counts int

_HEAD = re.compile(rf"{re.escape(FORMAT)} ([0-9]+) ([0-9a-f]*)")
_CELL = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r\n|\r|\n)')
_NUMBER = re.compile(r"[+-]?(?:inf|nan|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)")
_FORMULA = tuple(
    "=+-@\t\r'"
)  # first letters that a spreadsheet reads a formula from, and the apostrophe in front of them


def write(path: Path, columns: Mapping[str, Any], kinds: Kinds) -> None:
    """Write the columns to `path`, a .csv or a .json, whose former content stays until all of the new is there.

    Raises:
        TypeError, ValueError: a word is no str; another ending, or columns that are none. The file stays as it is.
    """
    render = _render(path)
    replace(path, render(_cells(columns, kinds), kinds, "\n").encode())


def read(path: Path, kinds: Kinds) -> dict[str, tuple[str, ...] | NDArray[Any]]:
    """The columns that were written, words as a tuple and numbers as an array.

    Raises:
        ValueError: another ending; the file was cut or changed, or is none of these.
    """
    render = _render(path)
    try:
        text = path.read_bytes().decode()
        found, version = (_from_csv if path.suffix == ".csv" else _from_json)(text, kinds)
        if version not in (None, VERSION):
            raise ValueError(f"must be of version {VERSION}, got {version}")
        columns = {name: _column(name, found[name], kind) for name, kind in kinds.items()}
        if len({len(column) for column in columns.values()}) != 1:
            raise ValueError("must have columns of one length")
        if version is not None:
            cells = _cells(columns, kinds)
            if text not in (render(cells, kinds, "\n"), render(cells, kinds, "\r\n")):
                raise ValueError("must be as it was written, got a file that was cut or changed")
        return columns
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        said = str(error)
        raise ValueError(f"{path.name} {said if said.startswith('must') else f'must be a table: {said}'}") from error


def _render(path: Path) -> Callable[[Cells, Kinds, str], str]:
    if path.suffix not in (".csv", ".json"):
        raise ValueError(f"path must end in .csv or .json, got {path.name}")
    return _as_csv if path.suffix == ".csv" else _as_json


def _cells(columns: Mapping[str, Any], kinds: Kinds) -> Cells:
    """The columns as plain lists, checked as a whole."""
    cells: Cells = {}
    for name, kind in kinds.items():
        if kind == "words":
            cells[name] = list(strings(name, columns[name]))
            continue
        array = np.asarray(columns[name])
        if array.ndim != 1 or (array.size and array.dtype.kind not in ("iu" if kind == "counts" else "iuf")):
            raise ValueError(f"{name} must be a row of {kind}, got {array.dtype} of shape {array.shape}")
        if kind == "counts" and (array < 0).any():
            raise ValueError(f"{name} must be at least 0, got {array.min()}")
        cells[name] = array.tolist() if kind == "counts" else [_cell(v) for v in array.astype(np.float64).tolist()]
    lengths = {name: len(column) for name, column in cells.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"columns must be of one length, got {lengths}")
    return cells


def _cell(number: float) -> float | str | None:
    if np.isnan(number):
        return None
    return repr(number) if np.isinf(number) else number


def _column(name: str, cells: Sequence[Any], kind: str) -> tuple[str, ...] | NDArray[Any]:
    """Cells of a file as a column: of JSON as they come, of CSV all str."""
    if kind == "words":
        return strings(name, cells)
    for cell in cells:
        text = isinstance(cell, str)
        number = isinstance(cell, int | float) and not isinstance(cell, bool)
        if kind == "counts":
            fits = re.fullmatch("[0-9]+", cell) is not None if text else type(cell) is int and cell >= 0
        else:
            fits = (cell == "" or _NUMBER.fullmatch(cell) is not None) if text else number or cell is None
        if not fits:
            raise ValueError(f"must have {kind} in {name}, got {cell!r}")
    if kind == "counts":
        return np.array([int(cell) for cell in cells], np.int64)
    return np.array([np.nan if cell in (None, "") else float(cell) for cell in cells], np.float64)


def _check(cells: Cells) -> str:
    return checksum(cells)[:16]


def _as_json(cells: Cells, kinds: Kinds, end: str) -> str:
    content = {"format": FORMAT, "version": VERSION, "check": _check(cells)} | cells
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").replace("\n", end)


def _from_json(text: str, kinds: Kinds) -> tuple[Cells, Any]:
    """The cells and the version, None for the first."""
    found = strict_json(text, twice="must have each column once", constant="must have null for NaN, got {}")
    if not isinstance(found, dict):
        raise ValueError(f"must have the columns {', '.join(kinds)}, got {type(found).__name__}")
    ahead = ["format", "version", "check"] if "version" in found else []
    if list(found) != [*ahead, *kinds]:
        raise ValueError(f"must have the columns {', '.join(kinds)}, got {', '.join(found)}")
    columns = {name: found[name] for name in kinds}
    if not all(isinstance(column, list) for column in columns.values()):
        raise ValueError("must have a list in every column")
    return columns, found.get("version", None)


def _as_csv(cells: Cells, kinds: Kinds, end: str) -> str:
    lines = [f"{','.join(cells)},{FORMAT} {VERSION} {_check(cells)}"]
    for row in zip(*cells.values(), strict=True):
        lines.append("".join(_in_csv(cell, kind) + "," for cell, kind in zip(row, kinds.values(), strict=True)))
    return "".join(line + end for line in lines)


def _in_csv(cell: Any, kind: str) -> str:
    if kind != "words":
        return "" if cell is None else str(cell)
    return '"' + harmless(cell).replace('"', '""') + '"'


def harmless(word: str) -> str:
    """A word with an apostrophe in front where a spreadsheet would take it for a formula."""
    return f"'{word}" if word.startswith(_FORMULA) else word


def _from_csv(text: str, kinds: Kinds) -> tuple[Cells, Any]:
    """The cells and the version, None for the first."""
    if not text.endswith("\n"):
        raise ValueError("must end in a line end")
    head, *rows = _rows(text)
    last = _HEAD.fullmatch(head[-1])
    if (head[:-1] if last else head) != [*kinds]:
        raise ValueError(f"must have the columns {', '.join(kinds)}, got {', '.join(head)}")
    if any(len(row) != len(head) for row in rows):
        raise ValueError(f"must have {len(head)} cells in every row, as in its first")
    columns: Cells = {name: [row[n] for row in rows] for n, name in enumerate(kinds)}
    if last is None:
        return columns, None
    for name, kind in kinds.items():
        if kind == "words":
            columns[name] = [cell.removeprefix("'") for cell in columns[name]]
    return columns, int(last[1])


def _rows(text: str) -> list[list[str]]:
    """Rows of cells. The csv module ends a cell at 131,072 letters, and a row at a `\\r` that nobody quoted."""
    rows: list[list[str]] = []
    row: list[str] = []
    place = 0
    while place < len(text):
        found = _CELL.match(text, place)
        if found is None:
            raise ValueError(f"must have cells in quotes or without any, got {text[place : place + 20]!r}")
        quoted, bare, end = found.groups()
        row.append(bare if quoted is None else quoted.replace('""', '"'))
        place = found.end()
        if end != ",":
            rows.append(row)
            row = []
    return rows
