"""A whole number is an integer of Python or NumPy and nothing else, wherever one is asked for."""

import enum
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

import rnam
from rnam import _checks, explain
from rnam.explain import names
from rnam.models.inputs import Columns

NOT_WHOLE = {
    "array": np.array([3]),
    "array of no dimension": np.array(3),
    "tensor": torch.tensor([3]),
    "tensor of no dimension": torch.tensor(3),
    "bool": True,
    "bool of numpy": np.bool_(True),
    "float": 3.0,
    "float of numpy": np.float64(3),
    "duration of numpy": np.timedelta64(3, "D"),
    "words": "3",
    "none": None,
}
INTEGERS = (torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32, torch.uint64)
OF_A_MODEL = {"hidden_dim": 4, "out_dim": 1, "blocks": 1}


class Three(enum.IntEnum):
    THREE = 3


def _curve(groups: object) -> object:
    return explain.calibration_curve([0.1, 0.9], [0, 1], groups=groups)


def _response(**change: object) -> object:
    model = rnam.RNAM(2, 4, 1, 1)
    return explain.response(model, **{"term": 0, "baseline": [1.0, 2.0, 3.0], "at": 2, "steps": 6} | change)


PLACES: dict[str, tuple[str, Callable[[object], object]]] = {
    **{
        f"RNAM {name}": (name, lambda v, name=name: rnam.RNAM(**{"terms": 3} | OF_A_MODEL | {name: v}))
        for name in ("terms", "hidden_dim", "out_dim", "blocks", "in_dim", "members")
    },
    **{
        f"NAM {name}": (name, lambda v, name=name: rnam.NAM(**{"terms": 3} | {name: v}))
        for name in ("terms", "out_dim", "members")
    },
    "NAM hidden": ("hidden[0]", lambda v: rnam.NAM(3, [v])),
    "Linear": ("in_dim", lambda v: rnam.Linear(3, v, 3)),
    "minGRU": ("dim", lambda v: rnam.minGRU(3, v)),
    "columns": ("columns[0]", lambda v: Columns("columns", [[v]])),
    "bootstrap_weights": ("members", lambda v: rnam.bootstrap_weights(torch.arange(5), v)),
    "calibration_curve": ("groups", _curve),
    "response at": ("at", lambda v: _response(at=v)),
    "response steps": ("steps", lambda v: _response(steps=v)),
    "table": ("points", lambda v: explain.table(rnam.NAM(2), np.zeros((4, 2)), points=v)),
    "position": ("term", lambda v: names.position("term", v, "abcd")),
}


@pytest.mark.parametrize("place", PLACES)
def test_nothing_else_is_taken(place: str) -> None:
    name, call = PLACES[place]
    for kind, value in NOT_WHOLE.items():
        if place == "position" and kind == "words":  # a name
            continue
        with pytest.raises(TypeError) as raised:
            call(value)
        message = str(raised.value)
        assert message.startswith(f"{name} must be "), kind
        assert message.endswith(f"int, got {type(value).__name__}"), kind


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [np.int64(3), np.uint8(3), Three.THREE], ids=str)
def test_integers_of_numpy_are_taken(place: str, value: object) -> None:
    PLACES[place][1](value)


def test_they_become_ints() -> None:
    for value in (np.uint8(3), Three.THREE, 3):
        assert type(_checks.whole_number("n", value)) is int
        assert type(names.position("term", value, "abcd")) is int


@pytest.mark.parametrize("name", ["positive_number", "finite_number", "probability"])
def test_numbers_are_of_python_or_numpy_too(name: str) -> None:
    check = getattr(_checks, name)
    for kind in ("array", "array of no dimension", "tensor", "tensor of no dimension", "bool", "bool of numpy",
                 "duration of numpy", "words", "none"):  # fmt: skip
        with pytest.raises(TypeError, match="p must be a number, got"):
            check("p", NOT_WHOLE[kind])
    for value in (math.nan, math.inf, 10**400, -(10**400), np.float32("nan")):
        with pytest.raises(ValueError, match="p must be"):
            check("p", value)
    for value in (0.5, np.float32(0.5), np.float64(0.5)):
        assert check("p", value) == 0.5


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (np.arange(4.0), TypeError, "size must be a number, got ndarray"),  # it would be added step by step
        (torch.tensor(1.0), TypeError, "size must be a number, got Tensor"),
        (math.nan, ValueError, "size must be finite, got nan"),
    ],
)
def test_the_size_of_a_change_is_one_number(size: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _response(size=size)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_tensors_of_integers_of_every_width(dtype: torch.dtype) -> None:
    """Where integers are asked for, their width has no part in the result."""
    model, x = rnam.RNAM(2, 4, 1, 1), torch.randn(2, 4, 6, 1)
    lengths, ids = torch.tensor([0, 3, 6, 100]), torch.tensor([3, 0, 3, 100, 0])
    assert torch.equal(model(x, lengths=lengths.to(dtype)).prediction, model(x, lengths=lengths).prediction)
    drawn = [rnam.bootstrap_weights(i, 4, generator=torch.Generator().manual_seed(0)) for i in (ids, ids.to(dtype))]
    assert torch.equal(*drawn)


def test_the_largest_integers() -> None:
    model, x = rnam.RNAM(2, 4, 1, 1), torch.randn(2, 3, 6, 1)
    largest = torch.tensor([2**64 - 1, 2**63, 2**63 - 1], dtype=torch.uint64)  # more than seq acts as seq
    assert torch.equal(model(x, lengths=largest).prediction, model(x).prediction)
    weights = rnam.bootstrap_weights(largest, 50)
    assert len(torch.unique(weights, dim=1).T) == 3  # three people
