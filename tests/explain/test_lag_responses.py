"""The response of a filter is its kernel, for each history, member and output; what is asked wrongly is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rnam
from rnam.models.additive import Additive
from tests.support.assertions import assert_equal, assert_within

KERNEL = torch.tensor([[[0.5, 0.25, -0.125], [0.0, 1.0, 0.5]], [[2.0, 0.0, 1.0], [0.0, 0.0, 0.25]]]).double()


class Filters(nn.Module):
    """Each of two columns through a kernel for each member and output; integers in float64 are exact."""

    members = 2

    def forward(self, input: Tensor, *, return_sequence: bool, return_members: bool) -> Additive:
        assert return_sequence and return_members
        seq = input.shape[1]
        lagged = torch.stack([nn.functional.pad(input, (0, 0, lag, 0))[:, :seq] for lag in range(3)])  # (3, b, t, 2)
        kernel = KERNEL[:, None] * torch.tensor([1.0, 10.0]).double()[None, :, None, None]  # members, terms, out, lag
        parts = torch.einsum("mfol,lbtf->mfbto", kernel, lagged)
        return Additive(parts.sum(1), parts)


def test_an_impulse_gives_each_kernel() -> None:
    input = torch.randint(-9, 9, (4, 8, 2)).double()
    at = np.array([0, 3, 2, 1])
    changed = input.clone()
    changed[torch.arange(4), at, 0] += 4
    answer = rnam.explain.lag_response(Filters(), input, changed, at=at, lags=4)
    expected = np.zeros((2, 4, 2, 5, 2))  # members, histories, terms, lags, outputs
    expected[:, :, 0, :3] = 4 * KERNEL.numpy().swapaxes(1, 2)[:, None]
    assert_equal("by_term", answer.by_term, expected)
    assert_equal("change", answer.change, expected.sum(2))
    assert_equal("cumulative", answer.cumulative, expected.sum(2).cumsum(2))
    assert (answer.term, answer.lag.tolist()) == (("term 0", "term 1"), [0, 1, 2, 3, 4])


def test_a_pair_and_a_term_without_columns_have_their_part() -> None:
    model = rnam.RNAM(2, 4, 1, 1, columns=[[0], [0, 1]], dtype=torch.float64)
    input = torch.randn(3, 9, 2, dtype=torch.float64)
    changed = input.clone()
    changed[:, 4:, 0] += 1.0
    mask = torch.ones(3, 9, 2, dtype=torch.bool)
    mask[1, 6] = False
    answer = rnam.explain.lag_response(model, input, changed, mask, at=4, lags=4)
    with torch.no_grad():
        before, after = (model(x, mask, return_sequence=True).prediction for x in (input, changed))
    # the sum of terms is taken in another order there, of numbers below 10
    assert_within("change", answer.change, (after - before)[:, 4:], 1e-14)
    assert np.abs(answer.by_term).max((0, 2, 3)).min() > 0
    by_terms = rnam.RNAM(2, 4, 1, 1)
    x = torch.randn(2, 3, 5, 1)
    assert rnam.explain.lag_response(by_terms, x, x, at=0, lags=0).change.shape == (3, 1, 1)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"at": 5}, ValueError, "at must leave 4 steps of 9 after it, got 5"),
        ({"at": -1}, ValueError, "got -1"),
        ({"at": 0.5}, TypeError, "at must hold whole numbers, got float64"),
        ({"at": [1, 2]}, ValueError, r"have shape \(3,\), one for each history, got \(2,\)"),
        ({"lags": -1}, ValueError, "lags must be"),
        ({"changed": torch.zeros(3, 9, 1)}, ValueError, "changed must have the shape of input"),
        ({"changed": None}, TypeError, "changed must be"),
        ({"changed": torch.ones(3, 9, 2)}, ValueError, "before the step at, got another input in history 0"),
        ({"input": torch.zeros(9, 2), "changed": torch.zeros(9, 2)}, ValueError, "input must have shape"),
    ],
)
def test_bad_arguments_are_refused_by_name(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"input": torch.zeros(3, 9, 2), "changed": torch.zeros(3, 9, 2), "at": 4, "lags": 4, **changes}
    model = rnam.RNAM(2, 4, 1, 1, columns=[[0], [0, 1]])
    with pytest.raises(error, match=message):
        rnam.explain.lag_response(model, given.pop("input"), given.pop("changed"), **given)
