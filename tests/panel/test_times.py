"""Times: numbers, dates, periods and durations, exact as they came and as numbers of a unit."""

from __future__ import annotations

import datetime
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnam
from rnam.panel.times import SECONDS
from tests.support.assertions import assert_equal

pandas = pytest.importorskip("pandas")


ROUNDING = Fraction(1, 2**53)  # of a float64, of which dates have two


def of_times(times: Any, **options: Any) -> rnam.Panel:
    df = pandas.DataFrame({"id": 0, "t": times, "x": 1.0})
    return rnam.Panel.from_frame(df, id="id", time="t", values=["x"], **options)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float32", "float64", "Int32", "Float64"])
def test_numbers_are_taken_as_they_are(dtype: str) -> None:
    times = pandas.Series([0, 3, 100], dtype=dtype)
    p = of_times(times, time_unit="year")
    assert_equal("times", p.times, np.array([0.0, 3, 100]))
    assert p.time_unit == "year" and p.to_frame()["t"].dtype == dtype
    pandas.testing.assert_series_equal(p.stamps, times, check_names=False)


DATES = ["1969-12-31 12:00", "1970-01-02 06:00", "2013-08-20 18:00"]


@pytest.mark.parametrize("unit", SECONDS)
@pytest.mark.parametrize("resolution", ["s", "ms", "us", "ns"])
def test_dates_are_numbers_of_a_unit_since_1970(unit: str, resolution: str) -> None:
    times = pandas.Series(pandas.to_datetime(DATES)).astype(f"datetime64[{resolution}]")
    p = of_times(times, time_unit=unit)
    seconds = [-43_200, 86_400 + 21_600, 15_937 * 86_400 + 64_800]
    exact = np.array(seconds) / SECONDS[unit]
    # whole seconds are exact, and both quotients are the nearest to the same number
    assert_equal("times", p.times, exact)
    pandas.testing.assert_series_equal(p.to_frame()["t"], times, check_names=False)
    assert_equal("in days by default", of_times(times).times, np.array(seconds) / 86_400)


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=5, unique=True), st.sampled_from(list(SECONDS)))
def test_dates_to_the_nanosecond_are_kept_and_rounded_twice(stamps: list[int], unit: str) -> None:
    times = pandas.Series(np.array(sorted(stamps)).astype("datetime64[ns]"))
    p = of_times(times, time_unit=unit)
    assert_equal("stamps", p.stamps.to_numpy().astype(np.int64), times.to_numpy().astype(np.int64))
    for got, stamp in zip(p.times, sorted(stamps), strict=True):
        exact = Fraction(stamp, SECONDS[unit] * 10**9)
        assert abs(Fraction(got) - exact) <= abs(exact) * (2 * ROUNDING + ROUNDING**2), (got, exact)


def test_dates_with_a_zone_are_numbers_of_utc_and_come_back_in_the_zone() -> None:
    times = pandas.Series(pandas.to_datetime(["2013-10-27 00:30", "2013-10-27 01:30"], utc=True))
    local = times.dt.tz_convert("Europe/Berlin")  # both 02:30 by the clock
    p = of_times(local, time_unit="hour")
    assert p.times[1] - p.times[0] == 1
    pandas.testing.assert_series_equal(p.to_frame()["t"], local, check_names=False)
    limit = p.schema.clock.limit("until", "2013-10-27 00:00")
    assert limit == np.datetime64("2013-10-26 22:00")


def test_periods_count_from_their_starts_and_come_back() -> None:
    times = pandas.Series(pandas.period_range("2013-01", periods=3, freq="M"))
    p = of_times(times)
    assert_equal("times", np.diff(p.times), np.array([31.0, 28]))
    pandas.testing.assert_series_equal(p.to_frame()["t"], times, check_names=False)


def test_durations_count_from_nothing() -> None:
    times = pandas.Series(pandas.to_timedelta(["0h", "36h"]))
    p = of_times(times)
    assert_equal("times", p.times, np.array([0, 1.5]))
    pandas.testing.assert_series_equal(p.to_frame()["t"], times, check_names=False)


def test_dates_of_python_are_dates() -> None:
    p = of_times([datetime.date(1970, 1, 2), datetime.date(1970, 1, 5)])
    assert_equal("times", p.times, np.array([1.0, 4]))
    assert p.to_frame()["t"].dtype.kind == "M"


def test_times_that_are_none_are_refused() -> None:
    zones = [pandas.Timestamp("2013", tz="UTC"), pandas.Timestamp("2014", tz="Europe/Berlin"), pandas.Timestamp("2015")]
    for times, options, message in (
        (["2013", "2014"], {}, "times of column 't' must be numbers or dates, got '2013' in row 0, id 0; pandas"),
        (pandas.Series([1, 2], dtype="category"), {}, "must be numbers or dates, got category$"),
        (pandas.Series([datetime.timedelta(1)], dtype=object), {}, "in row 0, id 0; pandas.to_timedelta"),
        ([10**400], {}, "must be numbers or dates, got objects: .* a float64 can hold"),
        (pandas.Series(["a", "b"], dtype="category"), {}, "times of column 't' must be numbers or dates"),
        (pandas.Series(zones, dtype=object), {}, "times of column 't' must be dates of one time zone"),
        (pandas.to_datetime(["2013", None]), {}, "column 't' must have a time in each row, got none, id 0"),
        (pandas.to_datetime(["2013"]), dict(time_unit="month"), "time_unit must be one of year, week, .* got 'month'"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            of_times(times, **options)


def test_limits_are_of_the_kind_of_the_times() -> None:
    dates = of_times(pandas.to_datetime(["2013-01-01", "2013-06-01"]))
    for value in ("2013-03-01", datetime.date(2013, 3, 1), np.datetime64("2013-03-01"), pandas.Period("2013-03")):
        assert [list(part.lengths) for part in dates.split(until=[value])] == [[1], [2]]
    durations = of_times(pandas.to_timedelta(["0h", "36h"]))
    assert [list(part.lengths) for part in durations.split(until=["1D"])] == [[1], [2]]
    for panel, value, message in (
        (dates, 15_000, "until must be dates, as the times are, got 15000"),
        (dates, "soon", "until must be dates, as the times are, got 'soon'"),
        (dates, pandas.NaT, "until must be dates, got NaT"),
        (dates, pandas.Timestamp("2013", tz="UTC"), "until must have no time zone"),
        (of_times([0, 1]), "2013", "until must be numbers, as the times are, got '2013'"),
        (of_times([0, 1]), float("nan"), "until must be numbers, got NaN"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            panel.split(until=[value])


def test_a_limit_that_a_zone_has_twice_or_never_is_refused() -> None:
    hours = pandas.date_range("2013-01-01", periods=4, freq="90D", tz="Europe/Berlin")
    for limit in ("2013-10-27 02:30", "2013-03-31 02:30"):
        with pytest.raises(ValueError, match=f"until must be times that Europe/Berlin has once, got '{limit}'"):
            of_times(hours).split(until=[limit])
