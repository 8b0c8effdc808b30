"""A state that is none of a step's is refused by name, before anything is computed with it."""

from typing import Any

import pytest
import torch

import rnam

GIVEN = {"times": torch.zeros(4), "static": torch.zeros(4, 1)}


def _model() -> rnam.RNAM:
    return rnam.RNAM(3, 6, out_dim=2, blocks=2, timing=True, static_columns=[[0]])


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("hidden", None, TypeError, r"state\['hidden'\] must be a list of tensors, got NoneType"),
        ("hidden", torch.zeros(2, 4, 4, 1, 6), TypeError, r"state\['hidden'\] must be a list of tensors, got Tensor"),
        ("hidden", [], ValueError, r"state\['hidden'\] must have 2 tensors, got 0"),
        # each of these would be computed with
        ("contributions", torch.zeros(4, 4, 2).long(), TypeError, r"state\['contributions'\] must be a float32"),
        ("contributions", torch.zeros(4, 4, 2).bool(), TypeError, r"state\['contributions'\] must be a float32"),
        ("static", torch.zeros(1, 4, 2).long(), TypeError, r"state\['static'\] must be a float32"),
        ("static_observed", torch.zeros(1, 4), TypeError, r"state\['static_observed'\] must be a bool"),
        ("last_visit", torch.zeros(4) > 0, TypeError, r"state\['last_visit'\] must be a tensor of floats or integers"),
        ("last_visit", torch.zeros(4) + 1j, TypeError, r"state\['last_visit'\] must be a tensor of floats or integers"),
        (3, None, ValueError, "state must have the entries .*'visited'], got"),
    ],
)
def test_entries(name: Any, value: object, error: type[Exception], message: str) -> None:
    model = _model()
    _, _, state = model.step(torch.zeros(3, 4, 1), **GIVEN)
    with pytest.raises(error, match=message):
        model.step(torch.zeros(3, 4, 1), state | {name: value}, times=torch.ones(4))
