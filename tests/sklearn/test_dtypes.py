"""Columns, targets and weights of every dtype: what the estimators take, and what they refuse by name."""

from __future__ import annotations

import datetime
import decimal
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from skorch.helper import SliceDict

from rnam.sklearn import AdditiveBinaryClassifier
from tests.support.assertions import assert_equal
from tests.support.estimators import NAMES, ROWS, nam, recurrent

pandas = pytest.importorskip("pandas")


# columns


def _forms(frame: Any) -> dict[str, Any]:
    arrow = {"n": frame["bilirubin"].map(decimal.Decimal)}
    return {
        "float, int, bool": frame.astype({"albumin": bool}),
        "nullable": frame.astype({"albumin": bool}).convert_dtypes(),
        "Float64, Int64": frame.astype({"age": "Float64", "bilirubin": "Int64", "albumin": "boolean"}),
        "float16 beside uint8": frame.assign(bilirubin=frame["bilirubin"].astype(np.float16)).astype(
            {"albumin": "uint8"}
        ),
        "objects": frame.astype(object),
        "decimals": frame.assign(bilirubin=arrow["n"]),
        "sparse": frame.astype({"albumin": pandas.SparseDtype(int, 0)}),
    }


@pytest.mark.parametrize("form", _forms(pandas.DataFrame({name: [] for name in NAMES})))
def test_columns_of_numbers_are_taken(frame: Any, target: np.ndarray, form: str) -> None:
    expected = nam().fit(frame.astype(float), target).predict(frame.astype(float))
    given = _forms(frame)[form]
    assert np.array_equal(nam().fit(given, target).predict(given), expected)


def test_arrays_lists_and_tensors_are_taken(frame: Any, target: np.ndarray) -> None:
    values = frame.to_numpy(float)
    expected = nam().fit(values, target).predict(values)
    read_only = values.copy()
    read_only.flags.writeable = False
    for given in (values.astype(object), values.tolist(), torch.tensor(values), read_only, values[:, ::-1][:, ::-1]):
        assert np.array_equal(nam().fit(given, target).predict(given), expected)


def _objects(item: Any) -> np.ndarray:
    """Numbers and this item, as objects."""
    items = np.array([0.5] * ROWS, object)
    items[-1] = item
    return items


def test_columns_that_hold_no_numbers_are_refused_by_name(frame: Any, target: np.ndarray) -> None:
    dates = pandas.date_range("2020", periods=ROWS)
    for values, message in (
        (["m", "f"] * (ROWS // 2), "got 'm'"),
        (["1", "2"] * (ROWS // 2), "got '1'"),
        (pandas.Categorical(["m", "f"] * (ROWS // 2)), "got category"),
        (pandas.Categorical([1, 2] * (ROWS // 2)), "got category"),
        (pandas.Categorical([0.5, None] * (ROWS // 2)), "got category"),
        (dates, "got datetime64"),
        (dates.tz_localize("UTC"), "got datetime64"),
        (dates - dates[0], "got timedelta64"),
        (dates.to_period("D"), "not 'Period'"),
        ([datetime.date(2020, 1, 1)] * ROWS, "got datetime.date"),
        (pandas.Series([0.5, pandas.NaT] * (ROWS // 2), dtype=object), "got NaT"),
        (_objects(np.datetime64(3, "ns")), "got np.datetime64"),
        (_objects(np.timedelta64(3, "ns")), "got np.timedelta64"),
        (_objects(10**400), "that a float64 can hold: int too large"),
        ([1j] * ROWS, "complex"),
        ([{}] * ROWS, "not 'dict'"),
    ):
        given = frame.assign(bilirubin=values)
        for call in (nam().fit, nam(AdditiveBinaryClassifier).fit):
            with pytest.raises((TypeError, ValueError), match=f"column 'bilirubin' of X must hold numbers.*{message}"):
                call(given, (target > 0).astype(int))
        with pytest.raises((TypeError, ValueError), match="column 'bilirubin' of X must hold numbers"):
            nam().fit(frame, target).predict(given)


class OtherFrame:
    """A frame as polars has them: as one array, its dates are numbers."""

    def __init__(self, frame: Any) -> None:
        self.frame, self.columns, self.shape = frame, list(frame), frame.shape

    def __getitem__(self, name: str) -> Any:
        return self.frame[name].to_numpy()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.column_stack([np.asarray(self[name], np.float64) for name in self.columns])


def test_frames_of_other_libraries_are_read_by_column(frame: Any, target: np.ndarray) -> None:
    expected = nam().fit(frame, target).predict(frame)
    assert np.array_equal(nam().fit(OtherFrame(frame), target).predict(OtherFrame(frame)), expected)
    dates = frame.assign(bilirubin=pandas.date_range("2020", periods=ROWS))
    with pytest.raises(ValueError, match="column 'bilirubin' of X must hold numbers, got datetime64"):
        nam().fit(OtherFrame(dates), target)


def test_arrays_that_hold_no_numbers_are_refused_by_column(frame: Any, target: np.ndarray) -> None:
    for given, message in (
        (frame.astype(str).to_numpy(), "column 0 of X must hold numbers, got '0.1"),
        (frame.to_numpy().astype(str), "column 0 of X must hold numbers, got '0.1"),
        (frame.assign(albumin="a").to_numpy(object), "column 2 of X must hold numbers, got 'a'"),
        (np.full((ROWS, 3), np.datetime64("2020")), "column 0 of X must hold numbers, got datetime64"),
        (np.ones((ROWS, 3), complex), "Complex data not supported"),
        (np.ones(ROWS), "Expected 2D array, got 1D array instead"),
        (np.ones((ROWS, 0)), "0 feature"),
        (np.ones((0, 3)), "0 sample"),
    ):
        with pytest.raises(ValueError, match=message):
            nam().fit(given, target[: len(given)])


def test_targets_of_every_dtype(frame: Any, target: np.ndarray) -> None:
    expected = nam().fit(frame, target).predict(frame)
    series = pandas.Series(target, index=[f"row {n}" for n in range(ROWS)])
    for y in (series, series.astype("Float64"), series.astype(object), series.to_frame("y"), target.tolist()):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.array_equal(nam().fit(frame, y).predict(frame), expected)
    with pytest.raises(ValueError, match="y must hold numbers, got 'low'"):
        nam().fit(frame, np.array(["low", "high"] * (ROWS // 2), object))


# all arguments


def _fit(argument: str, value: Any, kind: Any = None) -> np.ndarray:
    """The prediction after a fit that is given `value` as this argument; the others are zeros and ones."""
    options = {} if kind is None else {"kind": kind}
    beside = {"y": np.arange(ROWS) % 2.0}
    if argument == "static":
        net: Any = recurrent(module__static_columns=[[0], [1], [2]])
        X: Any = SliceDict(input=np.zeros((ROWS, 2, 2), np.float32), static=value)
    else:
        net, X = nam(**options, module__members=2, lr=0.1), np.eye(ROWS, 3)
        if argument == "X":
            X = value
        else:
            beside[argument] = value
    return net.fit(X, **beside).predict(X)


NUMBERS = {  # whole ones, so that every dtype holds them
    "X": np.arange(ROWS * 3.0).reshape(ROWS, 3) % 7,
    "static": np.arange(ROWS * 3.0).reshape(ROWS, 3) % 7,
    "y": np.arange(ROWS) % 5.0,
    "sample_weight": 1 + np.arange(ROWS) % 3.0,
}
IDS = {name: np.arange(ROWS) // 2 for name in ("resample", "groups")}


@pytest.mark.parametrize("dtype", [">f8", ">f4", ">f2", ">i4", "<f4", np.longdouble])
@pytest.mark.parametrize("argument", [*NUMBERS, *IDS, "labels"])
def test_arrays_of_other_machines_are_taken(argument: str, dtype: Any) -> None:
    """In either byte order, and of long doubles."""
    if argument == "labels":
        net = nam(AdditiveBinaryClassifier).fit(np.eye(ROWS, 3), NUMBERS["X"][:, 0].astype(dtype) > 3)
        labels = (NUMBERS["X"][:, 0] > 3).astype(dtype)
        assert net.fit(np.eye(ROWS, 3), labels).classes_.tolist() == [0, 1]
        return
    values = (NUMBERS | IDS)[argument]
    assert_equal("prediction", _fit(argument, values.astype(dtype)), _fit(argument, values))


@pytest.mark.parametrize("argument", NUMBERS)
def test_what_is_no_number_is_refused_in_every_argument(argument: str) -> None:
    values = NUMBERS[argument]
    name = argument if values.ndim == 1 else f"column 1 of {argument}"
    for item, message in (
        (np.datetime64(3, "ns"), "got np.datetime64"),
        (np.timedelta64(3, "ns"), "got np.timedelta64"),
        (pandas.Timestamp(3), "got Timestamp"),
        (10**400, "that a float64 can hold"),
    ):
        given = values.astype(object)
        given[(4, 1)[: values.ndim]] = item
        with pytest.raises(ValueError, match=f"^{name} must hold numbers.*{message}"):
            _fit(argument, given)
    categories = pandas.DataFrame(values).astype("category")
    with pytest.raises(ValueError, match=f"{argument} must hold numbers, got category"):
        _fit(argument, categories if values.ndim == 2 else categories[0])
    if values.ndim == 1:
        with pytest.raises(ValueError, match=f"{argument} must hold numbers, got category"):
            _fit(argument, pandas.Categorical(values))


def _masked(values: Any) -> np.ma.MaskedArray:
    """With a value hidden that would be seen if it were read."""
    hidden = np.ma.masked_array(values, np.zeros(values.shape, np.bool_))
    hidden[(4, 1)[: values.ndim]] = np.ma.masked
    return hidden


@pytest.mark.parametrize("argument", NUMBERS)
@pytest.mark.parametrize("dtype", [float, np.float16, int, bool, object])
def test_what_a_masked_array_hides_is_missing(argument: str, dtype: Any) -> None:
    given = _masked(NUMBERS[argument].astype(dtype))
    for form in (given, list(given)) if argument == "X" else (given,):
        with pytest.raises(ValueError, match=f"{argument} must be finite, got NaN"):
            _fit(argument, form)
    assert_equal("what was given", given.data.astype(float), NUMBERS[argument].astype(dtype).astype(float))
    unmasked = np.ma.masked_array(NUMBERS[argument])
    assert_equal("prediction", _fit(argument, unmasked), _fit(argument, NUMBERS[argument]))


def test_what_a_masked_array_hides_is_masked() -> None:
    values = NUMBERS["X"]
    holes = np.where(_masked(values).mask, np.nan, values)
    nets = [nam(module__missing=True).fit(X, values[:, 0]) for X in (_masked(values), holes)]
    assert_equal("prediction", nets[0].predict(_masked(values)), nets[1].predict(holes))
    x = np.ma.masked_array(np.zeros((ROWS, 2, 2)), np.arange(ROWS * 4).reshape(ROWS, 2, 2) % 3 == 0)
    sequences = [recurrent().fit(X, values[:, 0]) for X in (x, x.filled(np.nan))]
    assert_equal("prediction", sequences[0].predict(x), sequences[1].predict(x.filled(np.nan)))


@pytest.mark.parametrize("labels", [np.arange(ROWS) % 2, np.array(["a", "b"] * (ROWS // 2)), [0.5, 1.5] * (ROWS // 2)])
def test_labels_and_ids_that_a_masked_array_hides_are_refused(labels: Any) -> None:
    for dtype in (None, object):
        given = _masked(np.asarray(labels, dtype))
        with pytest.raises(ValueError, match="y must have a label for each sample, got NaN or None in 1 of 40"):
            _fit("y", given, AdditiveBinaryClassifier)
        for argument in IDS:
            with pytest.raises(ValueError, match=f"{argument} must have an id for each.* in 1 of 40"):
                _fit(argument, given)
    days = np.where(np.arange(ROWS) % 2, np.datetime64("2020-01-01"), np.datetime64("2020-01-02"))
    for argument in IDS:
        for given in (_masked(days), _masked(days.astype("M8[ns]"))):
            with pytest.raises(ValueError, match=f"{argument} must have an id for each.* in 1 of 40"):
                _fit(argument, given)
