"""Times and lengths of the estimators: numbers, which are there where they have an effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from skorch.helper import SliceDict
from torch import Tensor, nn

import rnam
from rnam.sklearn import AdditiveRegressor
from tests.support.assertions import assert_equal, assert_finite
from tests.support.estimators import OPTIONS, ROWS, recurrent

pandas = pytest.importorskip("pandas")


@pytest.fixture
def visits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X (samples, steps, columns), times and y."""
    rng = np.random.default_rng(0)
    times = rng.random((ROWS, 6)).cumsum(1)
    return rng.normal(size=(ROWS, 6, 2)).astype(np.float32), times, rng.normal(size=ROWS)


@pytest.mark.parametrize(("gap", "called"), [(np.nan, "NaN"), (-np.inf, "infinity")])
def test_the_times_of_visits_are_there(gap: float, called: str, visits: Any) -> None:
    x, times, y = visits
    net = recurrent(module__timing=True).fit(SliceDict(input=x, times=times), y)
    holes = times.copy()
    holes[[3, 5], 2] = gap
    some = x.copy()
    some[:, 2, 0] = np.nan  # the other term is observed
    for table in (x, some):
        for times_given in (holes, holes.astype(np.float32), torch.tensor(holes), holes.astype(object)):
            for call in (net.predict, lambda X: recurrent(module__timing=True).fit(X, y)):
                with pytest.raises(
                    ValueError, match=f"column 2 of times must be finite, got {called} in 2 of 40 samples"
                ):
                    call(SliceDict(input=table, times=times_given))


@pytest.mark.parametrize("hidden", ["values", "half of a pair", "mask", "lengths"])
def test_the_times_of_steps_without_a_visit_have_no_effect(hidden: str, visits: Any) -> None:
    """They may be missing."""
    x, times, y = visits
    columns = [[0, 1]] if hidden == "half of a pair" else [[0], [1]]
    beside: dict[str, Any] = {}
    if hidden == "mask":
        beside["mask"] = np.ones(x.shape, np.bool_)
        beside["mask"][:, 4] = False
    elif hidden == "lengths":
        beside["lengths"] = np.full(ROWS, 4)
    else:
        x[:, 4, 0 if hidden == "half of a pair" else slice(None)] = np.nan
    holes = times.copy()
    holes[:, 4] = np.nan
    net = recurrent(module__timing=True, module__columns=columns, module__terms=len(columns))
    net.fit(SliceDict(input=x, times=holes, **beside), y)
    expected = net.predict(SliceDict(input=x, times=times, **beside))
    assert_finite("prediction", expected)
    assert_equal("prediction", net.predict(SliceDict(input=x, times=holes, **beside)), expected)


def test_times_are_numbers(visits: Any) -> None:
    x, times, y = visits
    dates = np.full(times.shape, np.datetime64("2020-01-01", "ns"))
    net = recurrent(module__timing=True)
    for given, message in (
        (dates, "column 0 of times must hold numbers, got datetime64"),
        (np.array([[*row] for row in dates], object), "column 0 of times must hold numbers, got np.datetime64"),
        (times.astype(str), "column 0 of times must hold numbers, got '0."),
        (times.astype(complex), "Complex data not supported"),
    ):
        with pytest.raises(ValueError, match=message):
            net.fit(SliceDict(input=x, times=given), y)
    expected = net.fit(SliceDict(input=x, times=times), y).predict(SliceDict(input=x, times=times))
    for given in (times.astype(object), times.astype(">f8"), times.astype(np.longdouble), pandas.DataFrame(times)):
        assert_equal("prediction", net.predict(SliceDict(input=x, times=given)), expected)


class OneTime(nn.Module):
    """A module that reads times of its own, and those of padding not."""

    def __init__(self) -> None:
        super().__init__()
        self.model = rnam.RNAM(1, 4, 1, 1)

    def forward(self, input: Tensor, times: Tensor, lengths: Tensor | None = None) -> Any:
        return self.model(times.to(input.dtype)[None, ..., None], lengths=lengths)


def test_a_module_of_ones_own_reads_its_times_in_its_own_way(visits: Any) -> None:
    x, times, y = visits
    times[:, 4] = np.nan
    net = AdditiveRegressor(OneTime, **OPTIONS).fit(SliceDict(input=x, times=times, lengths=np.full(ROWS, 4)), y)
    with pytest.raises(ValueError, match="column 4 of times must be finite, got NaN in 40 of 40 samples"):
        net.predict(SliceDict(input=x, times=times))


def test_lengths_are_whole_numbers(visits: Any) -> None:
    x, _, y = visits
    x[0, 0] = np.nan
    lengths = np.random.default_rng(0).integers(-1, 8, ROWS)
    net = recurrent().fit(SliceDict(input=x, lengths=lengths), y)
    expected = net.predict(SliceDict(input=x, lengths=lengths))
    series = pandas.Series(lengths)
    huge = np.where(lengths > 6, 1e300, lengths)
    tensor = torch.tensor(lengths)
    for given in (lengths.astype(float), series.astype("Int64"), series.astype(object), huge, tensor, tensor.half()):
        assert_equal("prediction", net.predict(SliceDict(input=x, lengths=given)), expected)
    for given, message in (
        (lengths + 0.5, r"lengths must be whole numbers, got -?\d\.5"),
        (np.where(lengths > 4, np.nan, lengths), "lengths must be finite, got NaN in"),
        (lengths.astype(str), "lengths must hold numbers, got '"),
        (np.full(ROWS, np.datetime64("2020")), "lengths must hold numbers, got datetime64"),
        (lengths[:, None], r"lengths must have shape \(40,\), got \(40, 1\)"),
    ):
        for call in (net.predict, lambda X: recurrent().fit(X, y)):
            with pytest.raises(ValueError, match=message):
                call(SliceDict(input=x, lengths=given))
    with pytest.raises(ValueError, match=r"lengths must have shape \(40,\), got \(3,\)"):
        net.predict({"input": x, "lengths": lengths[:3]})


def test_times_lengths_and_masks_that_a_masked_array_hides_are_refused(visits: Any) -> None:
    x, times, y = visits
    hidden = np.ma.masked_equal(np.arange(ROWS), 3)
    of_times = np.ma.masked_array(times, np.arange(times.size).reshape(times.shape) == 7)
    with pytest.raises(ValueError, match="column 1 of times must be finite, got NaN in 1 of 40"):
        recurrent(module__timing=True).fit(SliceDict(input=x, times=of_times), y)
    with pytest.raises(ValueError, match="lengths must be finite, got NaN in 1 of 40"):
        recurrent().fit(SliceDict(input=x, lengths=hidden), y)
    mask = np.ma.masked_array(np.ones(x.shape, np.bool_), np.arange(x.size).reshape(x.shape) == 7)
    for gap in (0, np.nan):
        x[0, 0, 0] = gap
        with pytest.raises(TypeError, match="mask must be a bool tensor"):
            recurrent().fit(SliceDict(input=x, mask=mask), y)
