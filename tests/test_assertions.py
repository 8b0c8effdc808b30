"""The assertions of tests/support say what failed: each way of failing is seen here."""

import numpy as np
import pytest
import torch

from tests.support.assertions import assert_equal, assert_finite, assert_norm_within, assert_within

NAN, INF = torch.nan, torch.inf


def _message(assertion: object, *arguments: object, **options: object) -> str:
    with pytest.raises(AssertionError) as caught:
        assertion(*arguments, **options)  # type: ignore[operator]
    return str(caught.value)


def test_within_names_the_worst_element() -> None:
    exact = torch.arange(6.0, dtype=torch.float64).view(2, 3)
    got = exact.clone()
    got[0, 1] += 0.5  # 0.5 over a bound of 1 is within
    got[1, 0] += 0.25
    got[1, 2] -= 0.125
    bound = torch.tensor([[1.0], [0.01]])
    assert_within("h", got[:1], exact[:1], bound[:1])
    said = _message(assert_within, "h", got, exact, bound)
    assert said.startswith("h: 2 of 6 elements err") and "(1, 0)" in said
    assert "got 3.25, exact 3, error 0.25, bound 0.01" in said


def test_within_measures_the_worst_by_its_own_bound() -> None:
    said = _message(assert_within, "h", torch.tensor([3.0, 1.0]), torch.zeros(2), torch.tensor([2.0, 0.1]))
    assert "2 of 2" in said and "(1,)" in said
    assert "(0,)" in _message(assert_within, "h", torch.tensor([3.0, 1.0]), torch.zeros(2), 0)


@pytest.mark.parametrize("got", [NAN, INF, -INF])
@pytest.mark.parametrize("bound", [0.0, 1.0, INF, NAN])
def test_within_takes_no_special_number_for_a_finite_one(got: float, bound: float) -> None:
    said = _message(assert_within, "h", torch.tensor([0.0, got]), torch.zeros(2), bound)
    assert "(1,)" in said and f"got {got}" in said


@pytest.mark.parametrize("bound", [INF, NAN, -1.0, torch.tensor([NAN, 1.0])])
def test_within_takes_no_bound_that_proves_nothing(bound: object) -> None:
    assert "1 of 2" in _message(assert_within, "h", torch.tensor([0.5, 0.0]), torch.zeros(2), bound)


def test_within_takes_nan_where_it_is_asked_for() -> None:
    holes, full = torch.tensor([NAN, 1.0]), torch.tensor([0.0, 1.0])
    assert_within("h", holes, holes, 0, nan=True)
    assert_within("h", full, holes, 0, where=[False, True])
    assert "1 of 2" in _message(assert_within, "h", holes, holes, 1)
    assert "got 0, exact nan" in _message(assert_within, "h", full, holes, 1, nan=True)
    assert "got nan, exact 0" in _message(assert_within, "h", holes, full, 1, nan=True)


def test_within_takes_equal_infinities() -> None:
    special = torch.tensor([INF, -INF])
    assert_within("h", special, special, NAN)
    assert "got inf, exact -inf" in _message(assert_within, "h", special, -special, 1)
    assert "got 0, exact inf" in _message(assert_within, "h", torch.zeros(2), special, INF)


def test_within_refuses_other_shapes_and_narrower_exact_numbers() -> None:
    assert "shape (2,), exact (2, 1)" in _message(assert_within, "h", torch.zeros(2), torch.zeros(2, 1), 1)
    assert "shape (2,), exact ()" in _message(assert_within, "h", torch.zeros(2), torch.zeros(()), 1)
    for got, exact in (
        (torch.float64, torch.float32),
        (torch.bfloat16, torch.float16),
        (torch.int64, torch.float64),
        (torch.float32, torch.int64),
    ):
        said = _message(assert_within, "h", torch.zeros(2, dtype=got), torch.zeros(2, dtype=exact), 1)
        assert str(got) in said and str(exact) in said
    assert_within("h", torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2), 0)
    with pytest.raises(RuntimeError):
        assert_within("h", torch.zeros(2), torch.zeros(2), torch.ones(3))


def test_within_takes_numbers_and_arrays() -> None:
    fixed = np.array([0.25, 0.5])
    fixed.flags.writeable = False  # as pandas gives them
    assert_within("p", fixed, fixed, np.float64(0))
    assert_within("p", torch.tensor([0.25, -0.5], requires_grad=True), 0.0, 0.5)
    assert "(1,): " in _message(assert_within, "p", fixed, 0.0, 0.25).replace("\n    ", " ")
    assert "at ()" in _message(assert_within, "loss", 1.5, 1.0, 0.25)
    assert_within("none", torch.zeros(0, 2), torch.zeros(0, 2), 0)


def test_norm_within() -> None:
    exact = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert_norm_within("dx", exact + torch.tensor([0.3, 0.4]), exact, 0.51)
    said = _message(assert_norm_within, "dx", exact + torch.tensor([0.3, 0.4]), exact, 0.49)
    assert said.startswith("dx: the error has norm 0.5 and may have 0.49, the exact value has 5") and "(1,)" in said
    assert "(0,)" in _message(assert_norm_within, "dx", torch.tensor([NAN, 4.0]), exact, 10)
    for bound in (NAN, INF):
        assert "dx" in _message(assert_norm_within, "dx", exact, exact, bound)
    assert_norm_within("dx", exact, exact, exact.clone().requires_grad_().norm())  # a bound may have a gradient
    assert "shape" in _message(assert_norm_within, "dx", exact[:1], exact, 10)
    assert "float64" in _message(assert_norm_within, "dx", exact, exact.float(), 10)


def test_equal() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, NAN]])
    assert_equal("x", x, x.clone(), nan=True)
    assert "1 of 4 elements differ; the first at (1, 1): got nan, expected nan" in _message(assert_equal, "x", x, x)
    said = _message(assert_equal, "x", x[0], torch.tensor([1.0, 5.0]))
    assert "1 of 2 elements differ; the first at (1,): got 2.0, expected 5.0" in said
    assert "(1, 1): got nan, expected 0.0" in _message(assert_equal, "x", x, x.nan_to_num(), nan=True)
    assert "shape (2,), expected (1, 2)" in _message(assert_equal, "x", x[0], x[:1])
    assert "float32, expected torch.float64" in _message(assert_equal, "x", x[0], x[0].double())
    assert_equal("x", x[:1], x[:1].numpy())
    assert_equal("mask", torch.zeros(2, dtype=torch.bool), False)
    assert "got 2.0, expected 1.0" in _message(assert_equal, "x", x[0], 1)


def test_equal_looks_into_lists_and_mappings() -> None:
    x, y = torch.zeros(2), torch.ones(2)
    assert_equal("state", {"hidden": [x, None], "seen": (y,)}, {"hidden": (x, None), "seen": [y]})
    assert _message(assert_equal, "state", {"hidden": [x, y]}, {"hidden": [x, x]}).startswith(
        "state['hidden'][1]: 2 of"
    )
    assert "state[1]: got None" in _message(assert_equal, "state", [x, None], [x, y])
    assert "expected None" in _message(assert_equal, "state", [x, y], [x, None])
    assert "has 1 parts, expected 2" in _message(assert_equal, "state", [x], [x, y])
    assert "has ['a'], expected ['b']" in _message(assert_equal, "state", {"a": x}, {"b": x})


@pytest.mark.parametrize("bad", [NAN, INF])
def test_finite(bad: float) -> None:
    assert_finite("g", (torch.ones(2), np.ones(2)))
    assert _message(assert_finite, "g", [torch.ones(2), None]) == "g[1]: None"
    assert f"g[1]: 1 of 2 elements are not finite; the first at (1,): {bad}" in _message(
        assert_finite, "g", [torch.ones(2), torch.tensor([0.0, bad])]
    )
