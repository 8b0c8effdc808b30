"""Padded batches, and panels from arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import rnam
from tests.panel.support import panel, people, people_panel, visits
from tests.support.assertions import assert_equal

pandas = pytest.importorskip("pandas")

BATCH = {"values", "mask", "codes", "lengths", "times", "static", "static_mask", "static_codes"}


def test_a_batch_is_padded_behind_the_visits() -> None:
    p = panel()
    batch = p.padded([1, 2])
    assert set(batch) == BATCH | {"target", "weight"}
    nan = np.nan
    assert_equal("lengths", batch["lengths"], np.array([3, 1]))
    assert_equal("values", batch["values"][..., 0], np.array([[2.0, nan, 6], [4, nan, nan]]), nan=True)
    assert_equal("mask", batch["mask"][..., 1], np.array([[True, True, True], [True, False, False]]))
    assert_equal("codes", batch["codes"][..., 0], np.array([[1, -1, 2], [0, -1, -1]], np.int32))
    assert_equal("times", batch["times"], np.array([[1.0, 4, 11], [2, nan, nan]]), nan=True)
    assert_equal("target", batch["target"], np.array([[0.0], [1]]))
    assert_equal("static", batch["static"], np.array([[41.0], [33]]))
    assert_equal("weight", batch["weight"], np.array([2.0, 0]))
    longer = p.padded([1, 2], length=5)
    assert longer["values"].shape == (2, 5, 2) and np.isnan(longer["times"][:, 3:]).all()
    assert p.padded([])["values"].shape == (0, 0, 2)
    with pytest.raises(ValueError, match="length must be at least 3, the visits of the longest, got 2"):
        p.padded(length=2)
    with pytest.raises(ValueError, match="positions must be from 0 to 2, got -1"):
        p.padded([-1])


def test_batches_of_parts_are_those_of_the_whole() -> None:
    p = people_panel(weight="sex", static=[])
    whole = p.padded()
    order = np.random.default_rng(0).permutation(12)
    part = p.take(order)
    for name, array in part.padded([4, 0, 4]).items():
        expected = whole[name][order[[4, 0, 4]]]
        got = expected if array.ndim == 1 else expected[:, : array.shape[1]]
        assert_equal(name, array, got, nan=True)
    flat = [whole["values"][n, :length] for n, length in enumerate(p.lengths)]
    assert_equal("values", p.values, np.concatenate(flat), nan=True)
    assert_equal("weight at padding", whole["weight"][whole["times"] != whole["times"]], 0.0)


def test_a_model_reads_a_batch() -> None:
    """The arrays go into `rnam.RNAM` as they are, and padding has no effect."""
    p = people_panel()
    model = rnam.RNAM(1, 4, 1, 1, columns=[[0]], dtype=torch.float64)

    def predict(**options: Any) -> torch.Tensor:
        batch = {name: torch.from_numpy(array) for name, array in p.padded(**options).items()}
        return model(batch["values"], batch["mask"], lengths=batch["lengths"]).prediction

    assert_equal("prediction", predict(), predict(length=9))
    assert_equal("alone", predict(positions=[3]), predict()[[3]])


# arrays


@given(arrays.arrays(np.float64, (3, 4, 2), elements=st.sampled_from([np.nan, 1.0, -2.5])))
def test_an_array_comes_back_without_its_padding(X: np.ndarray) -> None:
    X[:, 0, 0] = 7.0  # a visit each
    p = rnam.Panel.from_array(X)
    seen = ~np.isnan(X).all(2)
    lengths = [int(np.flatnonzero(own)[-1]) + 1 for own in seen]
    assert p.lengths.tolist() == lengths
    batch = p.padded(length=4)
    assert_equal("values", batch["values"], X, nan=True)
    assert_equal("times", p.times, np.concatenate([np.arange(float(n)) for n in lengths]))


def test_an_array_with_labels_names_and_everything_else() -> None:
    X = np.array([[[1.0, 0], [2, 1]], [[3, 2], [np.nan, np.nan]]])
    days = np.array([["2013-01-01", "2013-01-05"], ["2014-01-01", "NaT"]], "datetime64[ns]")
    p = rnam.Panel.from_array(
        X, days, ids=["a", "b"], names=["bili", "ward"], y=["yes", "no"], static=[[1.0], [2.0]], static_names=["age"],
        weight=[1, 2], groups=[5, 6], categories=["ward"], units={"bili": "mg/dl"}, time_unit="day",
    )  # fmt: skip
    df = pandas.DataFrame(
        {
            "id": ["a", "a", "b"],
            "time": days.ravel()[:3],
            "bili": [1.0, 2, 3],
            "ward": [0.0, 1, 2],
            "age": [1.0, 1, 2],
            "y": ["yes", "yes", "no"],
            "weight": [1, 1, 2],
            "group": [5, 5, 6],
        }
    )
    again = rnam.Panel.from_frame(
        df, id="id", time="time", values=["bili"], categories=["ward"], static=["age"], target="y", weight="weight",
        group="group", units={"bili": "mg/dl"}, time_unit="day",
    )  # fmt: skip
    assert p.equals(again) and p.columns == again.columns
    at_visits = rnam.Panel.from_array(X, y=[[0, 1], [1, -1]], at="visit", weight=[[1, 2], [3, -4]])
    assert at_visits.target.tolist() == [0, 1, 1] and at_visits.weight.tolist() == [1, 2, 3]
    several = rnam.Panel.from_array(X, y=[[0, 1.5, 3], [1, 2.5, 3]])
    assert [column.name for column in several.schema.targets] == ["y0", "y1", "y2"]
    survival = np.array([(True, 3.5), (False, 9.0)], [("event", bool), ("time", float)])
    named = rnam.Panel.from_array(X, y=survival)
    assert [column.name for column in named.schema.targets] == ["event", "time"]
    assert named.schema.clock.name == "time_" and named.times.tolist() == [0, 1, 0]
    assert_equal("target", named.target, np.array([[1, 3.5], [0, 9]]))


def test_a_step_with_a_label_alone_is_a_visit() -> None:
    X = np.array([[[1.0], [np.nan], [np.nan]], [[2.0], [np.nan], [np.nan]]])
    y = np.array([[0, 1, np.nan], [np.nan, np.nan, 1]])
    p = rnam.Panel.from_array(X, y=y, at="visit")
    assert p.lengths.tolist() == [2, 3]
    assert_equal("target", p.padded()["target"][..., 0], y, nan=True)
    classes = np.array([["a", "b", None], ["a", None, None]], object)
    assert rnam.Panel.from_array(X, y=classes, at="visit").target.tolist() == ["a", "b", "a"]


def test_whole_numbers_and_tensors_are_arrays_too() -> None:
    X = np.arange(12).reshape(2, 3, 2)
    p = rnam.Panel.from_array(torch.from_numpy(X))
    assert p.values.dtype == np.float64 and p.lengths.tolist() == [3, 3]
    assert rnam.Panel.from_array(torch.from_numpy(X).float()).values.dtype == np.float32


def test_arrays_of_other_shapes_are_refused() -> None:
    X = np.ones((2, 3, 1))
    gone = np.full((2, 3, 1), np.nan)
    gone[0, 0] = 1
    for options, message in (
        (dict(X=X[0]), r"X must have shape \(n, T, columns\) of at least one each, got \(3, 1\)"),
        (dict(X=X[:, :0]), "of at least one each"),
        (dict(X=gone), "X must have a number for each id, got none for id 1"),
        (dict(X=X, times=[0, 1]), r"times must have shape \(3,\) or \(2, 3\), got \(2,\)"),
        (dict(X=X, times=[0, 0, 1]), "an id must have one row for each time, got two, id 0 at time 0"),
        (dict(X=X, ids=[1]), r"ids must have shape \(2\), got \(1,\)"),
        (dict(X=X, ids=[1, 1]), "ids must be different, got 1 twice"),
        (dict(X=X, y=np.zeros((2, 3))), r"y must have at='visit' with the shape \(2, 3\) of steps"),
        (dict(X=X, y=[1, 2, 3]), r"y must have shape \(2, columns\), got \(3,\)"),
        (dict(X=X, y=[1, 2], at="visit"), r"y must have shape \(2, 3, columns\), got \(2,\)"),
        (dict(X=X, names=["a", "b"]), "names must be 1, one for each column, got 2"),
        (dict(X=X, names=["s0"], static=[[1], [2]]), "names, static_names and y must have different names, got 's0'"),
        (dict(X=X, static=[1, 2]), r"static must have shape \(2, columns\), got \(2,\)"),
        (dict(X=X, weight=[1]), r"weight must have shape \(2\), got \(1,\)"),
        (dict(X=X, groups=[1]), r"groups must have shape \(2\)"),
        (dict(X=X, target="y"), "unexpected argument 'target'"),
        (dict(X=X * np.inf), "column 'x0' must hold finite numbers, got inf, id 0 at time 0"),
        (dict(X=X.astype(str)), "must hold numbers"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            rnam.Panel.from_array(**options)


# tables


DTYPES = {
    "f": st.floats(allow_nan=True, allow_infinity=False, width=32),
    "b": st.booleans(),
    "w": st.sampled_from(["a", "b", None]),
}


@given(st.data())
def test_a_table_comes_back_as_it_was(data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.tuples(st.integers(0, 3), *DTYPES.values()), min_size=1, max_size=12))
    rows.append((4, 0.5, True, "b"))  # a column of objects that holds nothing says of no kind what it is
    df = pandas.DataFrame(rows, columns=["id", *DTYPES]).sort_values("id", kind="stable", ignore_index=True)
    df.insert(2, "t", np.arange(len(df)) ** 2)
    df = df.astype({"f": data.draw(st.sampled_from(["float32", "float64", "Float32"])), "t": "int32"})
    dtype = data.draw(st.sampled_from(["object", "category", "str"]))
    df["w"] = pandas.Series([None if pandas.isna(word) else word for word in df["w"]], dtype=dtype)
    p = rnam.Panel.from_frame(df, id="id", time="t", values=["f"], categories=["b"], target="w", at="visit")
    pandas.testing.assert_frame_equal(p.to_frame(), df)
    again = rnam.Panel.from_frame(
        p.to_frame(), id="id", time="t", values=["f"], categories=["b"], target="w", at="visit"
    )
    assert again.equals(p)


def test_a_table_of_ids_comes_back_with_their_labels_and_groups() -> None:
    df = visits().drop(columns="note")
    pandas.testing.assert_frame_equal(panel().to_frame(), df.iloc[[0, 4, 1, 2, 5, 3]].reset_index(drop=True))
    held = people_panel().split(until=[20])[1].to_frame()
    rows = people()["person"].isin(held["person"])
    expected = people().assign(label=lambda df: df["label"].where(df["day"] > 20))[rows].reset_index(drop=True)
    pandas.testing.assert_frame_equal(held, expected)
