"""Arguments that numpy would take without a word: masked arrays, shapes that broadcast, functions that change them."""

from typing import Any

import numpy as np
import pytest
import torch

import rnam
from rnam import explain

MODEL = {"terms": 2, "hidden_dim": 4, "out_dim": 1, "blocks": 1}
NAN = float("nan")


def _data(rows: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, 2))


def _assert_same(got: explain.Table, expected: explain.Table) -> None:
    assert got.term == expected.term
    for name in ("x", "contribution", "n"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), name)


def test_a_masked_array_has_nan_where_it_is_masked() -> None:
    """What it holds there says nothing."""
    model, data = rnam.RNAM(**MODEL), _data()
    there = np.random.default_rng(1).random(data.shape) > 0.3
    masked = np.ma.masked_array(np.where(there, data, 1e6), ~there)
    _assert_same(explain.table(model, masked), explain.table(model, np.where(there, data, NAN)))
    answers = [explain.response(model, 0, data=values, steps=8) for values in (masked, np.where(there, data, NAN))]
    assert answers[0].data_range == answers[1].data_range
    with pytest.raises(ValueError, match="prediction must be finite, got NaN or infinity"):
        explain.recalibrate(np.ma.masked_array([0.0, 1.0, 2.0], [0, 1, 0]), [0, 1, 0])
    rows = [np.ma.masked_array(row, hidden) for row, hidden in zip(np.where(there, data, 1e6), ~there, strict=True)]
    _assert_same(explain.table(model, rows), explain.table(model, masked))
    seen = np.ma.masked_array(np.ones((2, 1), np.bool_), [[True], [False]])
    with pytest.raises(TypeError, match="observed must be bool, got float64"):
        explain.importance([[[1.0]], [[2.0]]], observed=seen)
    whole = np.ma.masked_array(np.arange(4))
    np.testing.assert_array_equal(explain.Recalibration(0.0, 2.0).prediction(whole), [0.0, 2.0, 4.0, 6.0])


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        # of as many rows as the data, or of none of both: each would be broadcast
        ((np.zeros((6, 1)), 1.0), r"mean of scale must be a number or of shape \(2,\), got shape \(6, 1\)"),
        ((0.0, np.ones((1, 2))), r"sd of scale must be a number or of shape \(2,\), got shape \(1, 2\)"),
        ((np.zeros(1), 1.0), r"mean of scale must be a number or of shape \(2,\), got shape \(1,\)"),
        (lambda v: v[0], r"what scale gives must have the shape of what it is given, \(6, 2\), got \(2,\)"),
        (lambda v: v[:, :1], r"what scale gives must have the shape of what it is given, \(6, 2\), got \(6, 1\)"),
    ],
)
def test_scales_of_a_table(scale: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explain.table(rnam.RNAM(**MODEL), _data(), scale=scale)


@pytest.mark.parametrize("part", [np.zeros(8), np.zeros((6, 1)), np.zeros(2)])
def test_the_scale_of_a_response_is_two_numbers(part: np.ndarray) -> None:
    """One of as many numbers as steps would be another at each of them."""
    for scale in ((part, 1.0), (0.0, part + 1)):
        with pytest.raises(ValueError, match="of scale must be a number, got shape"):
            explain.response(rnam.RNAM(**MODEL), 0, baseline=[0.0, 1.0, 2.0], steps=8, scale=scale)


def test_functions_may_change_what_they_are_given() -> None:
    model, data = rnam.RNAM(**MODEL), _data()

    def scale(values: np.ndarray) -> np.ndarray:
        values -= 3.0
        return values

    def encode(values: np.ndarray) -> dict[str, torch.Tensor]:
        values -= 3.0
        there = ~np.isnan(values)
        values[~there] = 0.0
        return {
            "input": torch.tensor(values, dtype=torch.float32).T[:, :, None, None],
            "mask": torch.tensor(there).T[:, :, None],
        }

    expected = explain.table(model, data, scale=(3.0, 1.0))
    _assert_same(explain.table(model, data, scale=scale), expected)
    _assert_same(explain.table(model, data, encode=encode), expected)


def test_a_response_has_no_infinite_data() -> None:
    """It was left out, and with it the end of the range."""
    with pytest.raises(ValueError, match="data must be finite or NaN, got infinity"):
        explain.response(rnam.RNAM(**MODEL), 0, data=[0.0, 1.0, float("inf")], steps=8)
