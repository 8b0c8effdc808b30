"""Times and events as they are read from panels and structured arrays, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest

import rnam
from rnam.estimators.survival_outcomes import Outcomes, of_panel, of_structured
from tests.support.assertions import assert_equal, assert_within


def visits(**columns: Any) -> Any:
    """Person a with visits on days 0, 10 and 25, who dies on day 40; b with visits on days 5 and 30, seen until 30."""
    table = {
        "person": list("aaabb"),
        "day": [0, 10, 25, 5, 30],
        "x": [1.0, 2.0, 3.0, 4.0, 5.0],
        "until": [40.0, 40.0, 40.0, 30.0, 30.0],
        "died": [True, True, True, False, False],
    }
    return pandas.DataFrame({**table, **columns})


def panel(at: str = "visit", target: Any = ("until", "died"), **columns: Any) -> rnam.Panel:
    roles: dict[str, Any] = dict(id="person", time="day", values=["x"], target=list(target), at=at)
    return rnam.Panel.from_frame(visits(**columns), **roles)


def structured(event: Any, time: Any, names: tuple[str, str] = ("event", "time")) -> Any:
    y = np.empty(len(time), dtype=[(names[0], np.asarray(event).dtype), (names[1], np.asarray(time).dtype)])
    y[names[0]], y[names[1]] = event, time
    return y


def read(y: Any, ids: int = 2) -> Outcomes:
    rows = pandas.DataFrame({"id": np.arange(ids), "day": 0, "x": 1.0})
    return of_structured(y, rnam.Panel.from_frame(rows, id="id", time="day", values=["x"]), "clock")[0]


class TestLandmarks:
    def test_each_visit_has_the_time_that_is_left(self) -> None:
        found = of_panel(panel(), "clock")
        assert_equal("time", found.time, np.array([40.0, 30.0, 15.0, 25.0, 0.0]))
        assert_equal("start", found.start, np.array([0.0, 10.0, 25.0, 5.0, 30.0]))
        assert_equal("event", found.event, np.array([True, True, True, False, False]))
        assert_equal("owners", found.owners, np.array([0, 0, 0, 1, 1]))

    def test_an_id_has_the_time_from_its_last_visit_on(self) -> None:
        assert_equal("time", of_panel(panel(at="id"), "clock").time, np.array([15.0, 0.0]))

    def test_times_from_the_visit_on(self) -> None:
        found = of_panel(panel(until=[4.0, 3.0, 2.0, 7.0, 1.0]), "visit")
        assert_equal("time", found.time, np.array([4.0, 3.0, 2.0, 7.0, 1.0]))
        assert_equal("start", found.start, 0.0)

    def test_events_may_come_first_where_they_are_bools(self) -> None:
        mine, swapped = of_panel(panel(), "clock"), of_panel(panel(target=("died", "until")), "clock")
        assert_equal("time", swapped.time, mine.time)
        assert_equal("event", swapped.event, mine.event)

    def test_a_panel_from_an_array_takes_structured_labels(self) -> None:
        y = structured([True, False], [3.0, 5.0])
        made = rnam.Panel.from_array(np.zeros((2, 2, 1)), y=y)
        assert_equal("time", of_panel(made, "clock").time, np.array([2.0, 4.0]))

    def test_a_gap_in_both_is_no_label(self) -> None:
        gaps = {"until": [40.0, np.nan, 40.0, 30.0, 30.0], "died": [1.0, np.nan, 1.0, 0.0, 0.0]}
        found = of_panel(panel(**gaps), "clock")
        assert_equal("labelled", found.labelled, np.array([True, False, True, True, True]))
        assert len(found.structured()) == 4

    def test_an_id_is_observed_from_its_first_visit_on(self) -> None:
        entry, end, event, _ = of_panel(panel(), "clock").spells(np.ones(5))
        assert_equal("entry", entry, np.array([0.0, 5.0]))
        assert_equal("end", end, np.array([40.0, 30.0]))
        assert_equal("event", event, np.array([True, False]))

    def test_an_id_with_several_events_is_observed_until_each(self) -> None:
        entry, end, event, _ = of_panel(panel(until=[12.0, 12.0, 40.0, 30.0, 30.0]), "clock").spells(np.ones(5))
        assert_equal("entry", entry, np.array([0.0, 25.0, 5.0]))
        assert_equal("end", end, np.array([12.0, 40.0, 30.0]))
        assert event.sum() == 2


class TestStructured:
    def test_is_that_of_scikit_survival(self) -> None:
        util = pytest.importorskip("sksurv.util")
        found = read(util.Surv.from_arrays([True, False], [3, 5], "dead", "days"))
        assert_within("time", found.time, np.array([3.0, 5.0]), 0.0)
        assert found.structured().dtype.names == ("event", "time")

    @pytest.mark.parametrize(
        ("y", "told"),
        [
            (np.zeros(3), "y must be a structured array (n,) with an event and a time.*got ndarray"),
            (structured([1, 0], [3.0, 5.0]), "must have a field of bools, the event, .* got event int64, time float64"),
            (structured([True, False], ["3", "5"]), "got event bool, time <U1"),
            (structured([True, False], [3.0, np.nan]), "'time' must be finite, got nan, id 1 at day 0"),
            (structured([True, False], [np.inf, 1.0]), "'time' must be finite, got inf, id 0 at day 0"),
            (structured([True, False], [3.0, -1.0]), "'time' must be at least 0, got -1, id 1 at day 0"),
        ],
    )  # fmt: skip
    def test_is_refused(self, y: Any, told: str) -> None:
        with pytest.raises((TypeError, ValueError), match=told.replace("(n,)", r"\(n,\)")):
            read(y)

    def test_is_of_ids_or_of_visits(self) -> None:
        ids, at_ids = of_structured(structured([True, False], [40.0, 30.0]), panel(), "clock")
        y = structured([True, True, True, False, False], [40.0, 40.0, 40.0, 30.0, 30.0])
        visits, at_visits = of_structured(y, panel(), "clock")
        assert (at_ids, at_visits) == ("id", "visit")
        assert_equal("time", ids.time, np.array([15.0, 0.0]))
        assert_equal("time", visits.time, of_panel(panel(), "clock").time)

    def test_has_as_many_rows_as_x(self) -> None:
        with pytest.raises(ValueError, match="y must have a label for each of 3 ids or of 3 visits, got 2"):
            read(structured([True, False], [3.0, 5.0]), 3)


@pytest.mark.parametrize(
    ("target", "columns", "told"),
    [
        (["until"], {}, r"must have target=\[time, event\], got \['until'\]"),
        (["died", "also"], {"also": [True] * 5}, "one target must be times and one events, got bools in both"),
        (["until", "died"], {"died": list("yyynn")}, "'died' must hold an event .* got levels 'n', 'y'"),
        (["until", "died"], {"died": [2, 2, 2, 0, 0]}, "'died' must be bool, or 0 or 1, got 2, person 'a' at day 0"),
        (["died", "until"], {"died": [1, 1, 1, 0, 0]}, "'until' must be bool, or 0 or 1, got 40, person 'a' at day 0"),
    ],
)
def test_targets_are_refused(target: list[str], columns: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        of_panel(panel(target=target, **columns), "clock")


@pytest.mark.parametrize(
    ("until", "told"),
    [
        ([-4.0, 40.0, 40.0, 30.0, 30.0], "must be at least 0, got -4, person 'a' at day 0"),
        ([24.0, 24.0, 24.0, 30.0, 30.0], "must not be before the visit, got 24, person 'a' at day 25"),
        ([40.0, np.nan, 40.0, 30.0, 30.0], "must hold a label where 'died' does, got none, person 'a' at day 10"),
    ],
)
def test_a_time_is_refused(until: list[float], told: str) -> None:
    with pytest.raises(ValueError, match=f"column 'until' {told}"):
        of_panel(panel(until=until), "clock")


def test_dates_are_no_clock_of_the_event() -> None:
    dates = pandas.to_datetime(["2020-01-01", "2020-01-11", "2020-01-26", "2020-01-06", "2020-01-31"])
    with pytest.raises(ValueError, match="origin='clock' must have times of visits that are numbers, got dates"):
        of_panel(panel(day=dates), "clock")
    assert_equal("time", of_panel(panel(day=dates), "visit").time[:1], np.array([40.0]))
