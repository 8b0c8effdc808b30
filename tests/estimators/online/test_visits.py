"""What `Online.update` takes, and what it refuses: columns, times, static values, in any form."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas
import pytest

import rnam
from tests.estimators.online.support import OPTIONS, fitted, inputs, panel, people
from tests.support.assertions import assert_equal, assert_within

VISIT = {"person": "p1", "day": 3, "bili": 2.0, "albumin": 1.0, "ward": "x", "hour": 7.0, "age": 40.0, "sex": "f"}


@pytest.fixture(scope="module")
def model() -> Any:
    return fitted(timing=True, continuous=True)


def _same(got: Any, expected: Any) -> None:
    assert_equal("contributions", got.contributions.to_numpy().ravel(), expected.contributions.to_numpy().ravel())


FORMS: dict[str, Any] = {
    "series": pandas.Series(VISIT),
    "a row of a table": pandas.DataFrame([VISIT]).iloc[0],
    "a row of an (id, time) index": pandas.DataFrame([VISIT]).set_index(["person", "day"]).iloc[0],
    "table": pandas.DataFrame([VISIT]),
    "other order": pandas.DataFrame([VISIT])[sorted(VISIT)],
    "(id, time) index": pandas.DataFrame([VISIT]).set_index(["person", "day"]),
    "numpy": {name: np.array([value])[0] for name, value in VISIT.items()},
    "category": pandas.DataFrame([VISIT]).astype({"ward": "category", "bili": "Float64"}),
    "labels": {**VISIT, "died": 7},  # which are not read
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str, model: Any) -> None:
    expected = model.online().update(VISIT)
    answer = model.online().update(FORMS[form])
    _same(answer, expected)
    single = isinstance(FORMS[form], dict | pandas.Series)
    assert isinstance(answer.contributions, pandas.Series if single else pandas.DataFrame)
    if not single:
        assert answer.contributions.index.tolist() == [("p1", 3)] and answer.index.names == ["person", "day"]


def test_a_panel_is_a_history(model: Any) -> None:
    df = people()
    told, expected = model.online().update(panel(df)), model.online().update(inputs(df))
    _same(told, model.online().update(inputs(df.sort_values(["person", "day"], key=_first_seen(df)))))
    assert told.contributions.sort_index().equals(expected.contributions.sort_index())


def _first_seen(df: Any) -> Any:
    places = {id: n for n, id in enumerate(df["person"].unique())}
    return lambda column: column.map(places) if column.name == "person" else column


def test_columns_that_are_absent_are_gaps(model: Any) -> None:
    """Each visit brings some columns alone, as devices send them."""
    visits = [
        {"person": 1, "day": 3, "bili": 2.0},
        {"person": 1, "day": 4, "ward": "y"},
        {"person": 1, "day": 4.5, "albumin": 1.0, "hour": 3},
        {"person": 1, "day": 6},
        {"person": 1, "day": 7, "bili": None, "ward": pandas.NA},
    ]
    live = model.online()
    one_by_one = [live.update(visit).contributions.to_numpy() for visit in visits]
    table = pandas.DataFrame(visits).astype({"ward": "string"})
    assert_equal("contributions", np.stack(one_by_one), _rounded(model.online().update(table), np.stack(one_by_one)))


def _rounded(answer: Any, like: Any) -> Any:
    """The contributions of several steps, as one step gives them where both are the same to rounding."""
    got = answer.contributions.to_numpy()
    return np.where(np.abs(got - like) <= 1e-6 * np.abs(like).max(), like, got)


def test_a_level_that_is_not_known_is_a_gap(model: Any) -> None:
    live, other = model.online(), model.online()
    _same(live.update({**VISIT, "ward": "new", "sex": "?"}), other.update({**VISIT, "ward": None, "sex": None}))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"bilirubin": 1.0},
            ValueError,
            r"visits must have columns that the model knows, got 'bilirubin'; it knows \['b",
        ),
        (
            {"bili": [1.0, 2.0]},
            TypeError,
            "column 'bili' of one visit must hold one value, got list; a DataFrame holds",
        ),
        ({"bili": "high"}, ValueError, "column 'bili' must hold numbers, got 'high', person 'p1' at day 5"),
        ({"bili": np.inf}, ValueError, "column 'bili' must hold finite numbers, got inf, person 'p1' at day 5"),
        ({"person": None}, ValueError, "column 'person' must have an id in each row"),
        ({"day": None}, ValueError, "column 'day' must have a time in each row"),
        ({"day": "monday"}, TypeError, "times of column 'day' must be numbers or dates, got 'monday'"),
        ({"day": pandas.Timestamp("2024")}, ValueError, "times must be numbers .*, got dates"),
        ({"day": 3}, ValueError, "in order of time, each once, got person 'p1' at day 3 again; late=\"ignore\""),
        ({"day": 2}, ValueError, "in order of time, each once, got person 'p1' at day 2 after 3; late=\"ignore\""),
        (
            {"age": 41.0},
            ValueError,
            "'age' must have one value for each person, got 40.0 before and 41.0 now",
        ),
        (
            {"sex": "m"},
            ValueError,
            "'sex' .* for each person, got 'f' before and 'm' now, person 'p1'",
        ),
    ],
)
def test_a_visit_that_is_refused_leaves_all_as_it_was(
    changes: dict[str, Any], error: type[Exception], message: str, model: Any
) -> None:
    live, other = model.online(), model.online()
    for each in (live, other):
        each.update(VISIT)
    with pytest.raises(error, match=message):
        live.update({**VISIT, "day": 5, **changes})
    assert len(live) == 1
    _same(live.update({**VISIT, "day": 6}), other.update({**VISIT, "day": 6}))


@pytest.mark.parametrize("name", ["person", "day"])
def test_a_visit_must_say_whose_and_when_it_is(name: str, model: Any) -> None:
    visit = {column: value for column, value in VISIT.items() if column != name}
    with pytest.raises(ValueError, match=f"visits must have the columns 'person' and 'day', got none .* '{name}'"):
        model.online().update(visit)


def test_what_is_no_table_is_refused(model: Any) -> None:
    with pytest.raises(TypeError, match="visits must be a dict, a Series, a DataFrame or a Panel, got ndarray"):
        model.online().update(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="df must have at least one row"):
        model.online().update(pandas.DataFrame([VISIT])[:0])


def test_late_visits_are_ignored_where_that_is_asked_for(model: Any) -> None:
    live = model.online(late="ignore")
    days = [("a", 3), ("b", 5), ("a", 3), ("a", 1), ("b", 6), ("a", 9), ("a", 8)]
    table = pandas.DataFrame([{**VISIT, "person": id, "day": day} for id, day in days])
    answer = live.update(table)
    assert answer.index.tolist() == [("a", 3), ("b", 5), ("b", 6), ("a", 9)] and len(answer) == 4
    assert answer.ignored.tolist() == [("a", 3), ("a", 1), ("a", 8)]
    expected = model.online().update(table.iloc[[0, 1, 4, 5]])
    _same(answer, expected)
    none = live.update({**VISIT, "person": "a", "day": 9})
    assert len(none) == 0 and none.ignored.tolist() == [("a", 9)] and repr(none) == "Answer(0 visits, 1 ignored)"
    assert none.prediction.empty and none.probability.shape == (0, 2) and none.contributions.shape == (0, 7)
    later = {**VISIT, "person": "a", "day": 12}
    other = model.online()
    other.update(table.iloc[[0, 1, 4, 5]])
    _same(live.update(later), other.update(later))
    with pytest.raises(ValueError, match="got person 'a' at day 3 again"):
        model.online().update(table)


def test_a_late_first_row_does_not_shift_the_answers(model: Any) -> None:
    """The ids of a table come in the order of their first rows, which are other ones without the late visits."""
    live = model.online(late="ignore")
    live.update({**VISIT, "person": "a", "day": 10})
    rows = [("a", 9, 1.0), ("b", 1, 2.0), ("a", 11, 3.0), ("b", 2, 4.0)]
    table = pandas.DataFrame(rows, columns=["person", "day", "bili"])
    answer = live.update(table)
    assert answer.index.tolist() == [("b", 1), ("a", 11), ("b", 2)]
    other = model.online()
    other.update({**VISIT, "person": "a", "day": 10})
    for id, day, bili in (rows[1], rows[2], rows[3]):
        expected = other.update({"person": id, "day": day, "bili": bili}).contributions.to_numpy()
        got = answer.contributions.loc[(id, day)].to_numpy()
        assert_within(f"contributions of {id} at {day}", got, expected, 1e-6 * np.abs(expected).max())


def test_static_columns_come_with_any_visit(model: Any) -> None:
    """An answer is that of the history up to now, with what is known of the id by now."""
    live, visits = (
        model.online(),
        [{"age": None, "sex": None}, {"sex": "f"}, {}, {"age": 40.0}, {"age": 40.0, "sex": "f"}],
    )
    bare = {name: value for name, value in VISIT.items() if name not in ("age", "sex")}
    table = pandas.DataFrame([{**bare, "day": n, **visit} for n, visit in enumerate(visits)])
    for n, visit in enumerate(visits):
        answer = live.update({**bare, "day": n, **visit})
        so_far = rnam.Panel.from_frame(table[: n + 1], like=model.schema_)
        expected = model.contributions(so_far).iloc[-1].to_numpy()
        got = answer.contributions.to_numpy()
        assert_within(f"contributions at visit {n}", got, expected, 1e-6 * np.abs(expected).max())


def test_ids_of_a_row_of_numbers_are_whole() -> None:
    """pandas makes floats of them."""
    df = people().assign(person=lambda df: df["person"].str[1:].astype(int))
    model = fitted(panel(df, categories=[], static=["age"]))
    live = model.online()
    live.update(df[["person", "day", "bili"]].iloc[0])
    assert live.ids.tolist() == [int(df["person"][0])] and live.ids.dtype == np.int64
    assert df["person"][0] in live


def test_ids_that_are_floats_beyond_whole_numbers_stay_apart(model: Any) -> None:
    """As int64, which NumPy makes of them without a word, both are -2^63."""
    live = model.online()
    live.update(pandas.DataFrame({"person": [1e20, 3e20], "day": [1, 1]}))
    assert live.ids.tolist() == [1e20, 3e20]


def test_times_of_another_zone_are_those_of_the_panel() -> None:
    df = people()
    start = pandas.Timestamp("2024-03-29", tz="Europe/Berlin")
    df["day"] = start.tz_convert("UTC") + pandas.to_timedelta(df["day"] * 7, unit="h")
    df["day"] = df["day"].dt.tz_convert("Europe/Berlin")
    model = fitted(panel(df, time_unit="hour"), continuous=True)
    live, other = model.online(), model.online()
    _same(live.update(inputs(df)), other.update(inputs(df).assign(day=df["day"].dt.tz_convert("Asia/Tokyo"))))
    zone = datetime.timezone(datetime.timedelta(hours=-3))
    late = datetime.datetime(2024, 3, 29, 0, 30, tzinfo=zone)
    with pytest.raises(ValueError, match=r"got person 'p\d' at day 2024-03-29 04:30:00\+01:00 after 2024-"):
        live.update({"person": df["person"][len(df) - 1], "day": late})
    with pytest.raises(ValueError, match=r"times must be dates in hour of zone Europe/Berlin, got dates .* zone None"):
        live.update({"person": "p1", "day": datetime.datetime(2025, 1, 1)})


def test_a_model_of_windows_reads_its_series_without_an_end() -> None:
    hours = pandas.date_range("2013-01-01", periods=60, freq="h")
    df = pandas.DataFrame({"ts": hours, "rain": np.random.default_rng(0).random(60), "origin": "JFK"})
    of = rnam.Panel.from_series(
        df, time="ts", group="origin", values=["rain"], target="rain", horizon=2, window=58, time_unit="hour"
    )
    model = fitted(of, rnam.RNAMRegressor)
    answer = model.online().update(df[:58])
    expected = float(model.predict(of).iloc[0])
    assert_within("prediction", answer.prediction.iloc[-1], expected, 1e-6 * abs(expected))


def test_a_model_of_a_frame_with_an_index_reads_such_frames() -> None:
    df = people()
    frame = df.set_index(["person", "day"])[["bili", "ward"]]
    model = rnam.RNAMRegressor(4, **OPTIONS).fit(frame, df["days"].to_numpy())
    answer = model.online().update(frame)
    expected = model.predict(frame)
    got = answer.prediction.reindex(expected.index).to_numpy()
    assert_within("prediction", got, expected.to_numpy(), 1e-6 * expected.abs().max())
