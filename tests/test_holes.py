"""Small behaviours that no other test would miss: each was found by changing a line of the package that no test saw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rnam
from rnam.backends.flags import encode
from rnam.functional import feed_forward, min_gru, min_gru_block, min_lstm
from rnam.regularizers import concurvity, output_penalty
from tests.support import backends, bounds, inputs, oracle
from tests.support.assertions import assert_within

F, B, D = 2, 3, 4


@pytest.fixture
def each_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with rnam.set_backend(request.param):
        yield request.param


EACH = pytest.mark.parametrize("each_backend", backends.EACH, indirect=True)


@pytest.mark.usefixtures("backend")
def test_a_step_takes_static_values_that_have_changed() -> None:
    """From then on, and with their own mask; a step without them keeps those of before."""
    model = rnam.RNAM(2, 4, 1, 1, static_columns=[[0], [1]], missing=True, dtype=torch.float64)
    nn.init.normal_(model.missing)
    x = torch.randn(3, 2, B, 1, dtype=torch.float64)
    first, second = torch.randn(2, B, 2, dtype=torch.float64)
    mask = torch.tensor([[True, False]])
    state, found = None, []
    for step, static in zip(x, (first, None, second), strict=True):
        options = {} if static is None else {"static": static, "static_mask": mask if static is second else None}
        _, contributions, state = model.step(step, state, **options)
        found.append(contributions[2:])

    def of(static: Tensor, **options: Tensor) -> Tensor:
        return model.step(x[0], static=static, **options)[1][2:]

    assert torch.equal(found[0], of(first)) and torch.equal(found[1], of(first))
    assert torch.equal(found[2], of(second, static_mask=mask))
    assert not torch.equal(found[2], found[1])
    assert torch.equal(model.step(x[0], state)[1][2:], found[2])


@pytest.mark.parametrize("penalty", [output_penalty, concurvity])
@pytest.mark.parametrize("members", [False, True])
def test_a_weight_of_each_sample_counts_at_every_visit(penalty: object, members: bool) -> None:
    """(batch,) over (batch, seq) is that weight at each step, not at the first alone or one step's for all."""
    lead = (2,) if members else ()
    contributions, weight = torch.randn(*lead, 3, 5, 4, 2, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    got = penalty(contributions, weight, members=members)  # type: ignore[operator]
    expected = penalty(contributions, weight[:, None].repeat(1, 4), members=members)  # type: ignore[operator]
    assert torch.equal(got, expected)
    assert not torch.equal(got, penalty(contributions, members=members))  # type: ignore[operator]


def test_autocast_takes_an_input_of_another_dtype() -> None:
    """As torch.nn.Linear does: a half comes in as it is. Outside of autocast the model refuses it, and float64, which
    autocast leaves alone, always."""
    model, x = rnam.RNAM(3, 4, 1, 1), torch.randn(3, B, 6, 1).bfloat16()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(x).prediction, model(x.float()).prediction)
        with pytest.raises(TypeError, match="weight must be float64 to go with input, got float32"):
            model(x.double())
    for other in (x, x.double()):
        with pytest.raises(TypeError, match="input must be float32 to go with the model"):
            model(other)


@pytest.mark.usefixtures("backend")
def test_the_digits_of_a_min_lstm_in_float64() -> None:
    """Gates up to +-30: there a softplus of torch, which is the identity from 20 on, is off by 2e-9."""
    x, w, h0 = inputs.layer_inputs(F, B, 40, D, 6)  # a weight of 12 columns, for 4 states
    w, h0 = torch.cat([w[..., :4], 8 * w[..., 4:]], dim=-1), h0[..., :4]
    h, h_last = min_lstm(x, w, h0)
    exact, exact_last = oracle.min_lstm(x, w, h0)
    assert torch.einsum("fbtd,fdh->fbth", x, w[..., 4:]).abs().max() > 25
    # some 10 roundings a step, of numbers up to the largest state
    limit = 40 * 10 * bounds.unit(torch.float64) * exact.abs().max()
    assert_within("h", h, exact, limit)
    assert_within("h_last", h_last, exact_last, limit)


def _dead(dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """x and the parameters of a feed-forward whose hidden units are 0 before the ReLU, exactly."""
    x = torch.randn(F, B, 5, D, dtype=dtype)
    zeros, square = torch.zeros(F, D, D, dtype=dtype), torch.randn(F, D, D, dtype=dtype)
    bias = torch.zeros(F, 1, D, dtype=dtype)
    return x, [torch.ones(D, dtype=dtype), torch.zeros(D, dtype=dtype), zeros, bias, square, bias.clone()]


@EACH
def test_the_slope_of_relu_at_zero_is_zero(each_backend: str) -> None:
    """As torch's: in a feed-forward, and in the backward of a block that is one kernel."""
    x, parameters = _dead(torch.float32)
    leaves = [p.requires_grad_() for p in parameters]
    (d_weight, d_bias) = torch.autograd.grad(feed_forward(x, x.sin(), *leaves).sum(), leaves[2:4])
    assert (d_weight == 0).all() and (d_bias == 0).all()
    weight = torch.randn(F, D, 2 * D)
    y, _ = min_gru_block(x, weight, *leaves)
    (d_weight, d_bias) = torch.autograd.grad(y.sum(), leaves[2:4])
    assert (d_weight == 0).all() and (d_bias == 0).all()


@EACH
@pytest.mark.parametrize("dim", [3, 5])
def test_a_nan_gradient_stays_in_its_row(each_backend: str, dim: int) -> None:
    """Widths that the kernels pad: a NaN of one row must not come back through the padding of another."""
    x, w, _ = inputs.layer_inputs(F, B, 5, dim, dim, dtype=torch.float32)
    square, bias = torch.randn(F, dim, dim), torch.randn(F, 1, dim)
    x = x.requires_grad_()
    others = torch.ones(F, B, 5, dtype=torch.bool)
    others[0, 1] = False
    for out in (
        min_gru(x, w)[0],
        feed_forward(x, x.sin(), torch.ones(dim), torch.zeros(dim), square, bias, square, bias),
    ):
        incoming = torch.ones_like(out)
        (clean,) = torch.autograd.grad(out, x, incoming, retain_graph=True)
        incoming[0, 1, 2, dim - 1] = torch.nan
        (dx,) = torch.autograd.grad(out, x, incoming)
        assert torch.equal(dx[others], clean[others])
        assert dx[0, 1, 2].isnan().all()
        assert dx[0, 1, 3:].isfinite().all()


def test_reset_parameters_takes_the_bias_back() -> None:
    for model in (rnam.RNAM(2, 4, 3, 1), rnam.NAM(2, (4,), 3), rnam.RNAM(2, 4, 3, 1, members=2)):
        nn.init.ones_(model.gam.bias)
        model.reset_parameters()
        assert (model.gam.bias == 0).all()


@EACH
@pytest.mark.parametrize("held", [torch.inf, torch.nan], ids=str)
@pytest.mark.parametrize("function", [min_gru, min_lstm], ids=lambda f: f.__name__)
@pytest.mark.parametrize("seq", [1, 3])
def test_a_masked_step_gives_the_weight_nothing(each_backend: str, function: Any, seq: int, held: float) -> None:
    """Whatever the state of its row is."""
    columns = 12 if function is min_lstm else 8
    x, weight, h0 = torch.randn(2, 3, seq, 4), torch.randn(2, 4, columns), torch.rand(2, 3, 1, 4)
    h0[:, 1] = held
    mask = torch.tensor([True, False, True])[:, None].expand(3, seq)
    weight.requires_grad_()
    h, h_last = function(x, weight, h0, mask=mask)
    (got,) = torch.autograd.grad(h[:, ::2].sum() + h_last[:, ::2].sum(), weight)
    rest = [0, 2]
    h, h_last = function(x[:, rest], weight, h0[:, rest])
    (expected,) = torch.autograd.grad(h.sum() + h_last.sum(), weight)
    bounds.assert_same(got, expected)


@EACH
@pytest.mark.parametrize("held", [torch.inf, torch.nan], ids=str)
@pytest.mark.parametrize("seq", [1, 3])
def test_a_masked_step_of_a_block_gives_the_weight_nothing(each_backend: str, seq: int, held: float) -> None:
    x, h0 = torch.randn(2, 3, seq, 4), torch.rand(2, 3, 1, 4)
    h0[:, 1] = held
    mask = torch.tensor([True, False, True])[:, None].expand(3, seq)
    square, bias, weight = torch.randn(2, 4, 4), torch.randn(2, 1, 4), torch.randn(2, 4, 8, requires_grad=True)
    rest = (torch.ones(4), torch.zeros(4), square, bias, square, bias)
    y, h_last = min_gru_block(x, weight, *rest, h0, mask=mask)
    (got,) = torch.autograd.grad(y[:, ::2].sum() + h_last[:, ::2].sum(), weight)
    y, h_last = min_gru_block(x[:, [0, 2]], weight, *rest, h0[:, [0, 2]])
    (expected,) = torch.autograd.grad(y.sum() + h_last.sum(), weight)
    bounds.assert_same(got, expected)


def test_a_reset_at_a_single_step_of_the_op() -> None:
    """The op takes a state that nobody has put to 0 before."""
    x, weight, h0 = torch.randn(2, 3, 1, 4), torch.randn(2, 4, 8), torch.rand(2, 3, 1, 4)
    reset = torch.tensor([True, False, True])[None, :, None]
    h, _ = torch.ops.rnam.blocked_min_gru(x, weight, h0, None, encode(None, reset), "mingru", "linear")
    expected, _ = torch.ops.rnam.blocked_min_gru(
        x, weight, torch.where(reset[..., None], 0, h0), None, None, "mingru", "linear"
    )
    bounds.assert_same(h, expected)
