"""Contributions of every kind of model: they sum to the prediction, with the names of all its terms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import rnam
from rnam import explain

BATCH, SEQ = 6, 5


def _case(kind: str) -> tuple[torch.nn.Module, list[torch.Tensor], dict[str, Any], int]:
    """A model, what it is given, and its terms."""
    x = torch.randn(BATCH, SEQ, 3)
    mask = torch.rand(BATCH, SEQ, 3) > 0.4
    times = torch.rand(BATCH, SEQ).cumsum(1)
    if kind == "columns":
        return rnam.RNAM(2, 4, 1, 1, columns=[[0], [1, 2]]), [x], dict(mask=mask), 2
    if kind == "all":
        model = rnam.RNAM(
            3, 4, 2, 1, columns=[[0], [1], [2]], missing=True, timing=True, memoryless_columns=[[2]],
            static_columns=[[0], [1]], members=2,
        )  # fmt: skip
        return model, [x], dict(mask=mask, times=times, static=torch.randn(BATCH, 2)), 7
    return rnam.NAM(3, hidden=(4, 4)), [torch.randn(BATCH, 3)], {}, 3


@pytest.mark.parametrize("kind", ["columns", "all", "nam"])
def test_contributions_sum_to_the_prediction(kind: str) -> None:
    model, arguments, options, terms = _case(kind)
    names = [f"term {n}" for n in range(terms)]
    explain.describe(model, names)
    with torch.no_grad():
        prediction = model(*arguments, **options).prediction.numpy()
    parts = explain.contributions(model, *arguments, **options)
    assert parts.shape == (BATCH, terms, prediction.shape[1])
    bias = explain.intercept(model)
    bias = bias.mean(0) if bias.ndim == 2 else bias
    np.testing.assert_allclose(parts.sum(1) + bias, prediction, rtol=1e-5, atol=1e-6)
    frame = explain.contributions(model, *arguments, as_frame=True, **options)
    assert list(dict.fromkeys(frame.columns.get_level_values(0))) == names


def test_the_spread_of_members() -> None:
    """Centred on one reference; the mean of the members and the intercepts' are the prediction."""
    model, arguments, options, _ = _case("all")
    parts = explain.contributions(model, *arguments, return_members=True, **options)
    centring = explain.Centering.fit(parts, members=True)
    mean, sd = explain.spread(parts, centring)
    with torch.no_grad():
        prediction = model(*arguments, **options).prediction.numpy()
    intercept = centring.intercept(explain.intercept(model)).mean(0)
    np.testing.assert_allclose(mean.sum(1) + intercept, prediction, rtol=1e-5, atol=1e-5)
    assert sd.max() > 0


def test_names_of_a_nam_stay_with_its_state_dict() -> None:
    model = explain.describe(rnam.NAM(3, hidden=(4,)), ["a", "b", "c"])
    again = rnam.NAM(3, hidden=(4,))
    again.load_state_dict(model.state_dict())
    assert again.description.names == ("a", "b", "c")
