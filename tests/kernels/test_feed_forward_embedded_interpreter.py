"""The feed-forward kernels that embed what they read, in the Triton interpreter against float64."""

import pytest
import torch

from rnam.kernels import feed_forward_keeps_embedding
from rnam.kernels.feed_forward.backward import feed_forward_backward
from rnam.kernels.feed_forward.config import num_parameters, select_feed_forward
from rnam.kernels.feed_forward.forward import feed_forward_forward
from tests.support.assertions import assert_equal
from tests.support.feed_forward_cases import check, inputs
from tests.support.selection import crossed

pytestmark = pytest.mark.interpreter

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize(
    ("size", "N", "dtype"),
    crossed(
        ((4, 1), (7, 2), (8, 1), (16, 3), (32, 2)),
        (1, 65),
        DTYPES,
        short=lambda _, N, dtype: N == 65 or dtype == torch.float32,
    ),
)
def test_parity(size, N, dtype):
    D, K = size
    check(*inputs(2, N, D, dtype, K=K))


def test_several_programs_per_term():
    N, D, K = 2500, 8, 1
    config = select_feed_forward(1, N, D, 4, backward=True, K=K)
    assert config.span < N and N % config.span
    check(*inputs(1, N, D, torch.float32, K=K))


@pytest.mark.parametrize("layout", ["a column of many", "transposed", "between other rows", "one for all terms"])
@pytest.mark.parametrize(("D", "K"), [(8, 1), pytest.param(17, 2, marks=pytest.mark.long)])
def test_inputs_are_read_where_they_lie(layout, D, K):
    x, params, h, dy = inputs(3, 18, D, torch.float32, K=K)
    whole = check(x, params, h, dy)
    if layout == "one for all terms":
        check(x[:1].expand(x.shape), params, h[:1].expand(h.shape), dy)
        return
    if layout == "a column of many":  # (rows, terms * K + 1) as a model reads it
        wide = torch.nn.functional.pad(x.transpose(0, 1).flatten(1), (0, 1))
        lies = wide[:, :-1].unfold(-1, K, K).movedim(1, 0)
    elif layout == "transposed":
        lies = x.mT.contiguous().mT
    else:
        lies = torch.stack([x, torch.full_like(x, torch.nan)], 2).flatten(1, 2)[:, ::2]
    assert torch.equal(lies, x) and (not lies.is_contiguous() or K == 1)
    assert_equal("results", check(lies, params, h, dy), whole)


@pytest.mark.parametrize("D", [4, 17])
@pytest.mark.parametrize("need", range(3))
def test_only_what_is_needed(D, need):
    x, params, h, dy = inputs(2, 40, D, torch.float32, K=1)
    full = feed_forward_backward(x, params, h, dy)
    got = feed_forward_backward(x, params, h, dy, needs=tuple(i == need for i in range(3)))
    assert [g is not None for g in got] == [i == need for i in range(3)]
    assert torch.equal(got[need], full[need])


def test_the_embedding_is_rounded_and_its_bias_is_not():
    x, params, h, dy = inputs(2, 20, 8, torch.bfloat16, K=2)
    finer = params.float()
    finer[:, -24:] *= 1 + 2.0**-12
    rounded = finer.clone()
    rounded[:, -24:-8] = rounded[:, -24:-8].bfloat16().float()
    assert torch.equal(feed_forward_forward(x, finer, h), feed_forward_forward(x, rounded, h))
    check(x, rounded, h, dy)


@pytest.mark.parametrize("D", [4, 8, 16, 32])
@pytest.mark.parametrize("value", [torch.nan, pytest.param(torch.inf, marks=pytest.mark.long)])
def test_what_is_not_finite_stays_in_its_row(D, value):
    x, params, h, dy = inputs(2, 40, D, torch.float32, K=1)
    wanted = feed_forward_forward(x, params, h), *feed_forward_backward(x, params, h, dy)
    x[0, 5, 0] = value
    y, (dx, dparams, dh) = feed_forward_forward(x, params, h), feed_forward_backward(x, params, h, dy)
    assert y[0, 5].isnan().all() and dh[0, 5].isnan().all() and dx[0, 5].isnan().all()
    assert dparams[0, -2 * D :].isnan().all()
    others = torch.ones(2, 40, dtype=torch.bool)
    others[0, 5] = False
    for got, want in zip((y, dx, dh), (wanted[0], wanted[1], wanted[3]), strict=True):
        assert torch.equal(got[others], want[others])
    assert torch.equal(dparams[1], wanted[2][1])


@pytest.mark.parametrize("K", [1, 3])
def test_empty(K):
    x, params, h = torch.randn(2, 0, K), torch.randn(2, num_parameters(8, K)), torch.randn(2, 0, 8)
    assert feed_forward_forward(x, params, h).shape == h.shape
    dx, dparams, dh = feed_forward_backward(x, params, h, h)
    assert (dx.shape, dh.shape) == (x.shape, h.shape) and dparams.shape == params.shape and (dparams == 0).all()


@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize(("D", "K"), [(4, 1), (8, 3), (32, 3)])
def test_partials_stay_under_a_twentieth_of_h(D, K, itemsize):
    F, N = 8, 200_000
    config = select_feed_forward(F, N, D, itemsize, backward=True, K=K)
    partials = F * -(-N // config.span) * num_parameters(D, K) * 4
    assert partials <= F * N * D * itemsize / 20


def test_what_no_kernel_takes():
    kept = [(K, D) for K in range(6) for D in (1, 3, 4, 8, 32, 33) if feed_forward_keeps_embedding(K, D)]
    assert kept == [(1, 4), (1, 8), (1, 32), (2, 8), (2, 32), (3, 8), (3, 32)]
    x, h = torch.randn(2, 3, 4), torch.randn(2, 3, 16)
    with pytest.raises(ValueError, match="of 1 to 3 before an embedding"):
        feed_forward_forward(x, torch.randn(2, num_parameters(16, 4)), h)
    with pytest.raises(ValueError, match="params: expected"):
        feed_forward_forward(x[..., :2], torch.randn(2, num_parameters(16)), h)
    with pytest.raises(ValueError, match="h: expected"):
        feed_forward_forward(x[:, 1:, :2], torch.randn(2, num_parameters(16, 2)), h)
