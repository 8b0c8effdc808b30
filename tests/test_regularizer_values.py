"""Numbers that make a penalty look right: NaN, infinity, sizes whose squares overflow, and weights that are none."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rnam import _checks
from rnam.explain import Centering, importance
from rnam.regularizers import concurvity, output_penalty, term_dropout

PENALTIES = pytest.mark.parametrize("penalty", [output_penalty, concurvity])
Penalty = Callable[..., Tensor]


@PENALTIES
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (2, 19, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_diverged_model_has_no_finite_penalty(
    penalty: Penalty, number: float, place: tuple[int, ...], dtype: torch.dtype
) -> None:
    parts = torch.randn(3, 20, 2).to(dtype)
    parts[place] = number
    assert not penalty(parts).isfinite()
    assert not penalty(parts[None].expand(2, -1, -1, -1), members=True).isfinite().any()


def test_nan_in_each_place_is_nan() -> None:
    for place in range(2 * 6 * 1):
        parts = torch.randn(2, 6, 1)
        parts.view(-1)[place] = math.nan
        assert concurvity(parts).isnan()
        assert concurvity(parts, torch.ones(6)).isnan()


@pytest.mark.parametrize("exponent", [-120, -100, -70, 70, 100, 127])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_correlation_has_no_unit(exponent: int, dtype: torch.dtype) -> None:
    """Two terms that say the same do so whatever the size of one of them: the square of 2**70 is past float32."""
    x, size = torch.linspace(-1, 1, 33), 2.0**exponent
    parts = torch.stack([x * size, x])[..., None].to(dtype)
    # roundings of 33 numbers in a sum
    assert float(concurvity(parts)) == pytest.approx(1, abs=33 * torch.finfo(torch.float32).eps)
    flat = torch.stack([torch.full_like(x, size), x])[..., None].to(dtype)
    assert float(concurvity(flat)) == 0


def test_sizes_leave_the_gradient() -> None:
    """Those of a term 2**90 times as large are as many times smaller."""
    parts = torch.randn(3, 20, 2)
    large = parts.clone()
    large[1] *= 2.0**90
    grads = []
    for values in (parts, large):
        values.requires_grad_()
        (gradient,) = torch.autograd.grad(concurvity(values), values)
        grads.append(gradient)
    grads[1][1] *= 2.0**90
    torch.testing.assert_close(grads[1], grads[0])


def test_an_empty_batch_has_no_penalty() -> None:
    for penalty in (output_penalty, concurvity):
        assert float(penalty(torch.zeros(3, 0, 2))) == 0


BAD = [-1.0, -1e-30, math.nan, math.inf, -math.inf]


@PENALTIES
@pytest.mark.parametrize("number", BAD)
@pytest.mark.parametrize("time", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_weights_are_finite_and_at_least_0(penalty: Penalty, number: float, time: bool, dtype: torch.dtype) -> None:
    parts = torch.randn(3, 6, 4, 1) if time else torch.randn(3, 6, 1)
    for weight in (torch.ones(6, dtype=dtype), *([torch.ones(6, 4, dtype=dtype)] if time else [])):
        weight.view(-1)[2] = number
        with pytest.raises(ValueError, match="weight must be finite and at least 0, got"):
            penalty(parts, weight)


@PENALTIES
@pytest.mark.parametrize("number", BAD)
def test_where_weights_are_not_looked_at_the_penalty_is_nan(penalty: Penalty, number: float) -> None:
    """In a graph nothing branches on them, and still no loss looks right."""
    parts, weight = torch.randn(3, 6, 1), torch.ones(6)
    compiled = torch.compile(penalty, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(parts, weight), penalty(parts, weight))
    right = penalty(parts, weight)
    mapped = torch.func.vmap(penalty, in_dims=(None, 0))
    torch.testing.assert_close(mapped(parts, weight.expand(2, -1)), right.expand(2))
    weight[2] = number
    assert compiled(parts, weight).isnan()
    assert mapped(parts, weight.expand(2, -1)).isnan().all()


def test_weights_of_a_device_are_not_waited_for() -> None:
    weight = torch.ones(4, device="meta")
    assert _checks.weights("weight", weight).is_meta


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: term_dropout(x, torch.tensor(0.5)), "p must be a number, got Tensor"),
        (lambda x: term_dropout(x, True), "p must be a number, got bool"),
        (lambda x: term_dropout(x, 0.5, training=1), "training must be True or False, got int"),
        # the number of members would shift every dimension
        (lambda x: term_dropout(x[None, None], 0.5, members=2), "members must be True or False, got int"),
        (lambda x: output_penalty(x[None, None], members=2), "members must be True or False, got int"),
        (lambda x: concurvity(x[None, None], members=2), "members must be True or False, got int"),
        (lambda x: importance(x[None, None], members=2), "members must be True or False, got int"),
        (lambda x: Centering.fit(x[None, None], members=2), "members must be True or False, got int"),
        (lambda x: Centering.fit(x, classes="no"), "classes must be True or False, got str"),
    ],
)
def test_flags_and_probabilities(call: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call(torch.randn(3, 4, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@PENALTIES
def test_autocast_rounds_no_penalty(penalty: Penalty, dtype: torch.dtype) -> None:
    """The constant 0.1, less its mean in half precision, would be a constant that is not 0, and correlate."""
    parts = torch.randn(3, 40, 2)
    parts[1] = 0.1
    expected = penalty(parts)
    with torch.autocast("cpu", dtype):
        got = penalty(parts)
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)
