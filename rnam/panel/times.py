"""Times of visits: kept exactly as they came, and as float64 numbers of a unit."""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

from rnam.sklearn import tables

__all__ = ["SECONDS", "Clock", "inexact", "of_calendar", "read"]

Array = NDArray[Any]

EXACT = 2**53  # up to here a float64 holds every whole number

# A year is the Julian one, of 365.25 days.
SECONDS = {"year": 31_557_600, "week": 604_800, "day": 86_400, "hour": 3_600, "minute": 60, "second": 1}

_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # a second, in the units of pandas


@dataclass(frozen=True)
class Clock:
    """The column of times.

    Args:
        name: of the column.
        kind: "number", "date" or "duration".
        unit: of `numbers`: of dates and durations one of `SECONDS`; of numbers whatever the table's are called.
        dtype: of the table's column.
    """

    name: Hashable
    kind: str
    unit: str
    dtype: Any = field(compare=False)

    @property
    def zone(self) -> Any:
        """The time zone of dates, or None."""
        return _zone(self.dtype)

    def numbers(self, stamps: Array) -> NDArray[np.float64]:
        """Times in units: of dates since the start of 1970 (UTC where they have a zone), rounded to float64 before they
        are divided by the unit and after."""
        if self.kind == "number":
            return stamps.astype(np.float64)
        per_unit = SECONDS[self.unit] * _TICKS[np.datetime_data(stamps.dtype)[0]]
        return stamps.astype(np.int64) / per_unit

    def restore(self, stamps: Array) -> Any:
        """Stamps as a pandas Series of the table's dtype."""
        series = pandas.Series(stamps)
        if isinstance(self.dtype, pandas.PeriodDtype):
            return series.dt.to_period(self.dtype.freq)
        if self.zone is not None:
            series = series.dt.tz_localize("UTC").dt.tz_convert(self.zone)
        return series if self.dtype is None else series.astype(self.dtype)

    def limit(self, argument: str, value: Any) -> Any:
        """`value`, a time that was given, as one to compare stamps with. A date without a zone is of the table's zone.

        Raises:
            TypeError, ValueError: it is no time of this kind.
        """
        if self.kind == "number":
            if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
                raise TypeError(f"{argument} must be numbers, as the times are, got {value!r}")
            if value != value:
                raise ValueError(f"{argument} must be numbers, got NaN")
            return value
        made = pandas.Timedelta if self.kind == "duration" else pandas.Timestamp
        try:
            if isinstance(value, int | float | np.integer | np.floating):
                raise TypeError("a number is none")
            time = made(value.start_time if isinstance(value, pandas.Period) else value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{argument} must be {self.kind}s, as the times are, got {value!r}") from error
        if time is pandas.NaT:
            raise ValueError(f"{argument} must be {self.kind}s, got NaT")
        if self.kind == "duration":
            return time.to_numpy()
        if (time.tz is not None) and self.zone is None:
            raise ValueError(f"{argument} must have no time zone, as the times have none, got {value!r}")
        if self.zone is not None:
            try:
                time = time.tz_localize(self.zone) if time.tz is None else time
            except ValueError as error:  # an hour that clocks skip, or go through twice
                raise ValueError(f"{argument} must be times that {self.zone} has once, got {value!r}") from error
            time = time.tz_convert("UTC").tz_localize(None)
        return time.to_numpy()


def read(
    name: Hashable, series: Any, unit: str | None, of_id: Callable[[int], str]
) -> tuple[Clock, Array, NDArray[np.bool_]]:
    """The clock of a column, its stamps, and where a time is missing. A stamp is an int64, a float64, a datetime64 or
    a timedelta64; those of dates with a zone are in UTC, those of periods are the starts.

    Args:
        of_id: the id of a row in the words of an error.

    Raises:
        TypeError, ValueError: the column holds neither numbers nor dates, or numbers that a float64 cannot hold; the
            unit is none.
    """
    where = f"times of column {name!r}"
    dtype: Any = series.dtype
    if isinstance(dtype, pandas.PeriodDtype):
        stamps = series.dt.to_timestamp().to_numpy()
        kind = "date"
    elif dtype.kind == "M" and _zone(dtype) is not None:
        stamps, kind = series.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(), "date"
    elif dtype.kind in "mM":
        stamps = series.astype(getattr(dtype, "numpy_dtype", dtype)).to_numpy()
        kind = "date" if dtype.kind == "M" else "duration"
    elif dtype.kind == "O" and _all_dates(series):
        series = _as_dates(where, series)
        _, stamps, gone = read(name, series, unit, of_id)
        return Clock(name, "date", _known_unit(unit), series.dtype), stamps, gone
    else:
        return _read_numbers(name, where, series, unit, of_id)
    return Clock(name, kind, _known_unit(unit), dtype), stamps, np.isnat(stamps)


def _zone(dtype: Any) -> Any:
    """The time zone of a dtype of pandas or pyarrow, or None."""
    return getattr(getattr(dtype, "pyarrow_dtype", dtype), "tz", None)


def _read_numbers(
    name: Hashable, where: str, series: Any, unit: str | None, of_id: Callable[[int], str]
) -> tuple[Clock, Array, NDArray[np.bool_]]:
    if series.dtype.kind == "b":
        raise TypeError(f"{where} must be numbers or dates, got {series.dtype}")
    try:
        stamps = tables.column_numbers(where, series)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{where} must be numbers or dates, {_refused(series, error, of_id)}") from error
    large = inexact(series)
    if large.any():
        row = int(large.argmax())
        raise ValueError(f"{where} must be at most 2**53 in size, got {series.iloc[row]}, {of_id(row)}")
    stamps = stamps.astype(np.int64 if stamps.dtype.kind in "iu" else np.float64)
    return Clock(name, "number", _any_unit(unit), series.dtype), stamps, np.isnan(stamps.astype(np.float64))


def of_calendar(dtype: Any) -> bool:
    """True if a dtype is one of dates, periods or durations."""
    return isinstance(dtype, pandas.PeriodDtype) or dtype.kind in "mM"


def _refused(series: Any, error: Exception, of_id: Callable[[int], str]) -> str:
    """The first item that is no time, and what to do with it."""
    if series.dtype.kind not in "OUS" or isinstance(series.dtype, pandas.CategoricalDtype):
        return f"got {series.dtype}"
    for row, item in enumerate(series):
        if isinstance(item, str):
            return f"got {item!r} in row {row}, {of_id(row)}; pandas.to_datetime reads dates from words"
        if isinstance(item, datetime.timedelta | np.timedelta64):
            return f"got {item!r} in row {row}, {of_id(row)}; pandas.to_timedelta makes a column of durations"
        if isinstance(item, datetime.date | np.datetime64):
            return f"got {item!r} in row {row}, {of_id(row)}; pandas.to_datetime makes a column of dates"
    return f"got objects: {error}"


def inexact(series: Any) -> NDArray[np.bool_]:
    """Where a column of numbers, nullable numbers or objects holds whole numbers that a float64 may not hold."""
    kind = series.dtype.kind
    if kind == "O":
        whole = (isinstance(item, numbers.Integral) and abs(int(item)) > EXACT for item in series)
        return np.fromiter(whole, np.bool_, len(series))
    if kind not in "iu" or series.dtype.itemsize < 8:
        return np.zeros(len(series), np.bool_)
    if isinstance(series.dtype, np.dtype):
        array = series.to_numpy()
        return np.asarray((array > EXACT) | (array < -EXACT))
    return np.asarray(((series > EXACT) | (series < -EXACT)).fillna(False).to_numpy(dtype=np.bool_))


def _all_dates(series: Any) -> bool:
    items = series.dropna()
    return len(items) > 0 and all(isinstance(item, datetime.date | np.datetime64) for item in items)


def _as_dates(where: str, series: Any) -> Any:
    try:
        return pandas.to_datetime(series)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} must be dates of one time zone: {error}") from error


def _known_unit(unit: str | None) -> str:
    unit = "day" if unit is None else unit
    if unit not in SECONDS:
        raise ValueError(f"time_unit must be one of {', '.join(SECONDS)} for dates, got {unit!r}")
    return unit


def _any_unit(unit: str | None) -> str:
    if unit is not None and not isinstance(unit, str):
        raise TypeError(f"time_unit must be a str, got {type(unit).__name__}")
    return unit or ""
