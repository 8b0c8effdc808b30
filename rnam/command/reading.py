"""A file as a table, and its cells as numbers, dates and levels. A wrong cell is refused with its row and column.

A row is numbered as a spreadsheet shows it: of CSV the names of the columns are row 1. Of Parquet the first is row 1.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas

__all__ = ["MISSING", "Cells", "dates", "numbers", "place", "read", "words"]

MISSING = frozenset({"", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "None", "<NA>"})
SEPARATORS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Cells:
    """How cells are written.

    Args:
        separator: of a CSV file; None to guess it.
        decimal: "." or ",".
        encoding: of a CSV file.
        date_format: of `datetime.strptime`; None for dates like 2020-12-31.
    """

    separator: str | None = None
    decimal: str = "."
    encoding: str = "utf-8-sig"
    date_format: str | None = None


def place(row: Any, column: Any) -> str:
    """A cell in the words of an error."""
    return f"row {row}, column {column!r}"


def read(path: Path, cells: Cells) -> Any:
    """A DataFrame whose index are the numbers of the rows. Of CSV it has words, without blanks around them, and None
    where they are missing; rows without any cell are left out.

    Raises:
        OSError: the file can't be read.
        ValueError: another ending; the file is empty; a row has more or fewer cells than there are columns; a column
            has no name, or one that another has.
        ImportError: Parquet without pyarrow.
    """
    ending = path.suffix.lower()
    if ending in (".parquet", ".pq"):
        frame = pandas.read_parquet(path).reset_index(drop=True)
        frame.index += 1
        _names(path, list(map(str, frame.columns)))
        frame.columns = list(map(str, frame.columns))
    elif ending in (".csv", ".tsv", ".txt"):
        frame = _read_csv(path, cells)
    else:
        raise ValueError(f"the file must end in .csv, .tsv, .txt or .parquet, got {path.name}")
    if not len(frame):
        raise ValueError(f"{path} must have a row or more, got none")
    return frame


def _read_csv(path: Path, cells: Cells) -> Any:
    try:
        with path.open(newline="", encoding=cells.encoding) as file:
            separator = cells.separator or _separator(file.readline())
            file.seek(0)
            rows = [[cell.strip() for cell in row] for row in csv.reader(file, delimiter=separator)]
    except (UnicodeDecodeError, LookupError) as error:
        raise ValueError(f"{path} must be in {cells.encoding}, got {error}; --encoding cp1252 reads others") from error
    except (csv.Error, TypeError) as error:
        raise ValueError(f"{path} must be CSV, got {error}") from error
    if not rows:
        raise ValueError(f"{path} must have a row with the names of the columns, got an empty file")
    names, body, numbers = _names(path, rows[0]), [], []
    for number, row in enumerate(rows[1:], 2):
        if not any(row):
            continue
        if len(row) != len(names):
            raise ValueError(
                f"row {number} must have {len(names)} cells, one for each column, got {len(row)}; --separator says "
                f"what is between them, here {separator!r}"
            )
        body.append([None if cell in MISSING else cell for cell in row])
        numbers.append(number)
    return pandas.DataFrame(body, index=numbers, columns=names, dtype=object)


def _separator(line: str) -> str:
    """That which gives the most columns; a comma where none does."""
    return max(SEPARATORS, key=lambda own: len(next(csv.reader([line], delimiter=own), [])))


def _names(path: Path, names: list[str]) -> list[str]:
    for number, name in enumerate(names, 1):
        if not name:
            raise ValueError(f"row 1 of {path} must have a name for each column, got none for column {number}")
        first = names.index(name) + 1
        if first < number:
            raise ValueError(f"columns must have different names, got {name!r} for columns {first} and {number}")
    return names


def words(series: Any) -> Any:
    """A column as words, None where it is missing."""
    return series.astype(object).where(series.notna(), None).map(str, na_action="ignore")


def numbers(series: Any, cells: Cells, strict: bool = True) -> tuple[Any, Any]:
    """A column as float64, NaN where it is missing, and where its cells are no numbers.

    Args:
        strict: refuse what is no number.

    Raises:
        ValueError: a number is infinite; or, with `strict`, a cell is none.
    """
    if series.dtype.kind in "biuf":
        found = series.astype(float)
    else:
        written = words(series)
        if cells.decimal == ",":
            written = written.str.replace(",", ".", regex=False)
        plain = written.str.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity)", case=False)
        found = pandas.to_numeric(written.where(plain.eq(True), None), errors="coerce").astype(float)
    wrong = found.isna() & series.notna()
    for row in found.index[np.isinf(found.to_numpy())]:
        raise ValueError(f"{place(row, series.name)} must be finite, got {series[row]}")
    if strict and wrong.any():
        row = wrong.idxmax()
        hint = "; --decimal , reads it" if "," in str(series[row]) and cells.decimal == "." else ""
        raise ValueError(f"{place(row, series.name)} must be a number, got {str(series[row])!r}{hint}")
    return found, wrong


def dates(series: Any, cells: Cells, strict: bool = True) -> tuple[Any, Any]:
    """A column as datetime64 in UTC, NaT where it is missing, and where its cells are no dates.

    Raises:
        ValueError: with `strict`, a cell is no date.
    """
    if series.dtype.kind == "M":
        found = series
    else:
        known = cells.date_format or "ISO8601"
        try:
            found = pandas.to_datetime(words(series), format=known, errors="coerce", utc=True)
        except ValueError as error:  # of the format
            raise ValueError(f"--date-format must be one of Python's strptime, got {known!r}: {error}") from error
    if getattr(found.dtype, "tz", None) is not None:
        found = found.dt.tz_convert("UTC").dt.tz_localize(None)
    wrong = found.isna() & series.notna()
    if strict and wrong.any():
        row = wrong.idxmax()
        wanted = (
            f"as {cells.date_format!r} says" if cells.date_format else "like 2020-12-31; --date-format reads others"
        )
        raise ValueError(f"{place(row, series.name)} must be a date {wanted}, got {str(series[row])!r}")
    return found, wrong
