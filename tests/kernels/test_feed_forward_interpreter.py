"""The feed-forward kernels in the Triton interpreter against float64."""

import pytest
import torch

from rnam.kernels import feed_forward_is_fused
from rnam.kernels.feed_forward.backward import feed_forward_backward
from rnam.kernels.feed_forward.config import num_parameters, select_feed_forward
from rnam.kernels.feed_forward.forward import feed_forward_forward
from tests.support.assertions import assert_equal
from tests.support.feed_forward_cases import check, exact, feed_forward, inputs
from tests.support.selection import crossed

pytestmark = pytest.mark.interpreter

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
DIMS = (1, 2, 3, 8, 16, 17, 32)
ROWS = (1, 15, 16, 17, 65)


@pytest.mark.parametrize(
    ("D", "N", "dtype"),
    crossed(DIMS, ROWS, DTYPES, short=lambda D, N, dtype: N >= 17 or (dtype == torch.float32 and N != 15)),
)
def test_parity(D, N, dtype):
    check(*inputs(2, N, D, dtype))


@pytest.mark.parametrize(
    ("D", "dtype"),
    crossed((1, 8), DTYPES, short=lambda D, dtype: (D, dtype) in ((1, torch.float32), (8, torch.bfloat16))),
)
def test_several_programs_per_term(D, dtype):
    N = 2500
    config = select_feed_forward(2, N, D, dtype.itemsize, backward=True)
    assert config.span < N and N % config.span
    check(*inputs(2, N, D, dtype))


def lay(t, layout):
    if layout == "transposed":
        return t.mT.contiguous().mT
    if layout == "sliced":
        return torch.stack([t, torch.full_like(t, torch.nan)], 2).flatten(1, 2)[:, ::2]
    if layout == "wide":
        return torch.cat([t, torch.full_like(t, torch.nan)], -1)[..., : t.shape[-1]]
    return t[:1, :1].expand(t.shape)


@pytest.mark.parametrize(
    ("layout", "size"),
    crossed(
        ("transposed", "sliced", "wide", "expanded"),
        ((1, torch.float32), (8, torch.float32), (8, torch.float16), (17, torch.float32)),
        short=lambda layout, size: layout == "sliced" or size == (8, torch.float32),
    ),
)
def test_strided_operands_and_gradients(layout, size):
    D, dtype = size
    x, params, h, dy = inputs(3, 18, D, dtype)
    whole = check(x, params, h, dy)
    if layout == "expanded":
        check(
            x, params[:1].expand(params.shape), h[:1, :1].expand(h.shape), torch.ones((), dtype=dtype).expand(dy.shape)
        )
        return
    for given in ((lay(x, layout), params, h, dy), (x, lay(params, layout), h, dy), (x, params, lay(h, layout), dy),
                  (x, params, h, lay(dy, layout)), tuple(lay(t, layout) for t in (x, params, h, dy))):  # fmt: skip
        assert_equal("results", check(*given), whole)


@pytest.mark.parametrize("D", [1, 8, 17])
@pytest.mark.parametrize("need", range(3))
def test_only_what_is_needed(D, need):
    x, params, h, dy = inputs(2, 40, D, torch.float32)
    full = feed_forward_backward(x, params, h, dy)
    got = feed_forward_backward(x, params, h, dy, needs=tuple(i == need for i in range(3)))
    assert [g is not None for g in got] == [i == need for i in range(3)]
    assert torch.equal(got[need], full[need])
    assert feed_forward_backward(x, params, h, dy, needs=(False, False, False)) == (None, None, None)


def test_float32_parameters_of_half_precision_inputs():
    x, params, h, dy = inputs(2, 40, 8, torch.bfloat16)
    half, single = check(x, params, h, dy), check(x, params.float(), h, dy)
    assert single[2].dtype == torch.float32
    assert_equal("results", half, [b.to(a.dtype) for a, b in zip(half, single, strict=True)])


def test_weights_are_rounded_and_biases_are_not():
    x, params, h, dy = inputs(2, 20, 8, torch.bfloat16)
    finer = params.float() * (1 + 2.0**-12)
    rounded = finer.clone()
    for start in (16, 88):  # W1 and W2
        rounded[:, start : start + 64] = rounded[:, start : start + 64].bfloat16().float()
    finer[:, :8] = rounded[:, :8] = 1.0  # gamma W1 is rounded once more
    assert torch.equal(feed_forward_forward(x, finer, h), feed_forward_forward(x, rounded, h))
    check(x, rounded, h, dy)


@pytest.mark.parametrize(
    ("D", "where", "value"),
    crossed(
        (1, 2, 3, 8, 16, 32),
        ("x", "h"),
        (torch.nan, torch.inf),
        short=lambda D, where, value: D in (1, 8, 32) and (where == "h") == (value == torch.inf),
    ),
)
def test_what_is_not_finite_stays_in_its_row(D, where, value):
    x, params, h, dy = inputs(2, 40, D, torch.float32)
    wanted = feed_forward_forward(x, params, h), *feed_forward_backward(x, params, h, dy)
    (x if where == "x" else h)[0, 5, D // 2] = value
    y, (dx, dparams, dh) = feed_forward_forward(x, params, h), feed_forward_backward(x, params, h, dy)
    assert y[0, 5].isnan().all() and dh[0, 5].isnan().all() and dx[0, 5].isnan().all()
    assert dparams[0, exact(x, params, h, dy)[2][0].isnan()].isnan().all()
    assert dparams[0, 2 * D : 2 * D + D * D].isnan().all()  # W1
    others = torch.ones(2, 40, dtype=torch.bool)
    others[0, 5] = False
    for got, want in zip((y, dx, dh), (wanted[0], wanted[1], wanted[3]), strict=True):
        assert torch.equal(got[others], want[others])
    assert torch.equal(dparams[1], wanted[2][1])


@pytest.mark.parametrize("D", [1, 2, 3, 8, 16, 32])
def test_a_gradient_that_is_not_finite_stays_in_its_row(D):
    x, params, h, dy = inputs(2, 40, D, torch.float32)
    wanted = feed_forward_backward(x, params, h, dy)
    dy[0, 5, D // 2] = torch.inf
    dx, dparams, dh = feed_forward_backward(x, params, h, dy)
    assert not dx[0, 5, D // 2].isfinite() and not dparams[0, -D:].isfinite().all()
    assert not dh[~exact(x, params, h, dy)[3].isfinite()].isfinite().any()
    others = torch.ones(2, 40, dtype=torch.bool)
    others[0, 5] = False
    assert torch.equal(dx[others], wanted[0][others]) and torch.equal(dh[others], wanted[2][others])


@pytest.mark.parametrize("D", [2, 8, 16])
def test_an_overflow_stays_in_its_row(D):
    """A hidden number past 65504 in float16, at one row."""
    x, params, h, _ = inputs(1, 40, D, torch.float16)
    x[0, 5], h[0, 5] = 0.0, 0.0
    x[0, 5, 0] = 1.0
    direction = torch.nn.functional.layer_norm(x[0, 5].float(), (D,)).sign().half()
    params[0, 2 * D : 2 * D + D * D] = 0.0
    params[0, 2 * D : 2 * D + D * D : D] = 60000.0 * direction  # the first hidden number is the sum of |n|
    params[0, :D], params[0, D : 2 * D] = 1.0, 0.0
    x[0, :5], x[0, 6:], h[0, :5], h[0, 6:] = 1.0, 1.0, 0.0, 0.0  # n = 0 in the other rows
    y = feed_forward_forward(x, params, h)
    assert not y[0, 5].isfinite().all()
    assert y[0, :5].isfinite().all() and y[0, 6:].isfinite().all()


def test_relu_has_slope_0_at_0():
    x, params, h, dy = inputs(1, 16, 8, torch.float32)
    params[:, 16:88] = 0.0  # W1 and b1
    _, dparams, dh = feed_forward_backward(x, params, h, dy)
    assert (dh == 0).all() and (dparams[:, :88] == 0).all()


def test_equal_numbers_and_large_ones():
    """A row without variance is beta; one with a large mean keeps what differs."""
    x, params, h, dy = inputs(1, 4, 8, torch.float32)
    x[0, 0], h[0, 0] = 3.0, -1.0
    x[0, 1] += 1000.0
    x[0, 2] *= 1e-30
    h[0, 2] *= 1e-30
    check(x, params, h, dy)


@pytest.mark.parametrize("shape", [(2, 0, 4), (0, 3, 4)])
def test_empty(shape):
    x, params = torch.randn(shape), torch.randn(shape[0], 48)
    assert feed_forward_forward(x, params, x).shape == shape
    dx, dparams, dh = feed_forward_backward(x, params, x, x)
    assert dx.shape == dh.shape == shape and dparams.shape == params.shape and (dparams == 0).all()


def test_repeatable():
    given = inputs(2, 700, 8, torch.float32)
    assert_equal("gradients", feed_forward_backward(*given), feed_forward_backward(*given))


def test_close_to_pytorch_in_its_own_formula():
    x, params, h, _ = inputs(2, 33, 16, torch.float32)
    torch.testing.assert_close(feed_forward_forward(x, params, h), feed_forward(x, params, h), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("D", [1, 3, 8, 16, 32])
def test_partials_stay_under_a_twentieth_of_x(D, itemsize):
    F, N = 8, 200_000
    config = select_feed_forward(F, N, D, itemsize, backward=True)
    partials = F * -(-N // config.span) * num_parameters(D) * 4
    assert partials <= F * N * D * itemsize / 20


def test_what_no_kernel_takes():
    assert [feed_forward_is_fused(D) for D in (0, 1, 32, 33)] == [False, True, True, False]
    x = torch.randn(2, 3, 33)
    with pytest.raises(ValueError, match="x: expected rows of 1 to 32"):
        feed_forward_forward(x, torch.randn(2, 2 * 33 * 33 + 4 * 33), x)
    x, params = torch.randn(2, 3, 4), torch.randn(2, 48)
    with pytest.raises(ValueError, match="params: expected"):
        feed_forward_forward(x, params[:, 1:], x)
    with pytest.raises(ValueError, match="h: expected"):
        feed_forward_forward(x, params, x[:, 1:])
    with pytest.raises(ValueError, match="dy: expected"):
        feed_forward_backward(x, params, x, x.half())
    with pytest.raises(TypeError, match="x: expected"):
        feed_forward_forward(x.double(), params, x)
