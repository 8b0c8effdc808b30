"""Shapes, values and flags that hypothesis draws, against the float64 steps, for values and gradients."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rnam.functional import grouped_linear, linear_scan, log_scan, min_gru
from tests.support import bounds, inputs, oracle
from tests.support.assertions import assert_within

SIZES = st.integers(1, 4)
LENGTHS = st.integers(1, 70)
SEEDS = st.integers(0, 2**31)


@given(
    sizes=st.tuples(SIZES, SIZES, LENGTHS, SIZES, SIZES),
    seed=SEEDS,
    # weights of 1e4 saturate every gate
    scale=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e4]),
    start=st.sampled_from([None, 0.0, 1.0, 1e5]),
    flagged=st.sampled_from(["", "mask", "reset", "mask reset"]),
    space=st.sampled_from(["linear", "log"]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
)
def test_min_gru(
    sizes: tuple[int, ...],
    seed: int,
    scale: float,
    start: float | None,
    flagged: str,
    space: str,
    dtype: torch.dtype,
) -> None:
    terms, batch, seq, dim, hidden = sizes
    x, w, h0 = inputs.layer_inputs(terms, batch, seq, dim, hidden, seed)
    x, w = x.to(dtype), (w * scale).to(dtype)
    state = None if start is None else (h0.abs() * start).to(bounds.computed(dtype))
    mask, reset = inputs.mask_and_reset(terms, batch, seq, seed)
    m, r = mask if "mask" in flagged else None, reset if "reset" in flagged else None
    h, h_last = min_gru(x, w, state, mask=m, reset=r, space=space)
    exact, exact_last = oracle.min_gru(x, w, state, m, r)
    bound = bounds.min_gru(x, w, state, m, r, dtype=dtype, space=space)
    # float16 ends at 65504: what exceeds it is infinite, and only that
    inside = exact.abs() < torch.finfo(dtype).max * 0.99
    assert_within("h", h, exact, bound, where=inside)
    assert_within("h_last", h_last, exact_last, bound[:, :, -1:])


@given(
    sizes=st.tuples(SIZES, SIZES, LENGTHS, SIZES, SIZES),
    seed=SEEDS,
    flagged=st.sampled_from(["", "mask", "reset", "mask reset"]),
    space=st.sampled_from(["linear", "log"]),
)
def test_gradients_of_min_gru(sizes: tuple[int, ...], seed: int, flagged: str, space: str) -> None:
    terms, batch, seq, dim, hidden = sizes
    x, w, h0 = inputs.layer_inputs(terms, batch, seq, dim, hidden, seed)
    mask, reset = inputs.mask_and_reset(terms, batch, seq, seed)
    m, r = mask if "mask" in flagged else None, reset if "reset" in flagged else None
    gh, _, gl = inputs.layer_inputs(terms, batch, seq, hidden, hidden, seed + 1)
    arguments = [t.requires_grad_() for t in (inputs.away_from_the_kink(x, w), w, h0.abs())]

    def gradients(h: Tensor, h_last: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((h * gh).sum() + (h_last * gl).sum(), arguments, materialize_grads=True)

    got = gradients(*min_gru(*arguments, mask=m, reset=r, space=space))
    expected = gradients(*oracle.min_gru(*arguments, m, r))
    bounds.assert_same(got, expected)


@given(shape=st.lists(SIZES, max_size=2), seq=LENGTHS, dim=SIZES, seed=SEEDS, start=st.booleans())
def test_scans(shape: list[int], seq: int, dim: int, seed: int, start: bool) -> None:
    rng = torch.Generator().manual_seed(seed)
    a, b, h0 = (torch.rand(*shape, n, dim, generator=rng, dtype=torch.float64) for n in (seq, seq, 1))
    a[torch.rand(a.shape, generator=rng) < 0.1] = 0
    state = h0 if start else None
    exact = oracle.scan(a, b, state)
    # positive terms: the error is relative, at most two units a step
    torch.testing.assert_close(linear_scan(a, b, state), exact, rtol=4 * seq * 2.0**-53, atol=0)
    log_h = log_scan(a.log(), b.log(), None if state is None else state.log())
    # each step rounds numbers of up to 45 in size, which is an error of h relative to that
    torch.testing.assert_close(log_h.exp(), exact, rtol=50 * 4 * seq * 2.0**-53, atol=0)


@given(
    middle=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    sizes=st.tuples(SIZES, SIZES, SIZES),
    seed=SEEDS,
    activation=st.sampled_from([None, "relu", "gelu", "silu"]),
    with_bias=st.booleans(),
)
def test_grouped_linear(
    middle: list[int], sizes: tuple[int, ...], seed: int, activation: str | None, with_bias: bool
) -> None:
    terms, in_dim, out_dim = sizes
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(terms, *middle, in_dim, generator=rng, dtype=torch.float64)
    w = torch.randn(terms, in_dim, out_dim, generator=rng, dtype=torch.float64)
    bias = torch.randn(terms, 1, out_dim, generator=rng, dtype=torch.float64) if with_bias else None
    got = grouped_linear(x, w, bias, activation)
    per_term = [x[f] @ w[f] + (0 if bias is None else bias[f]) for f in range(terms)]
    apply = torch.nn.Identity() if activation is None else getattr(torch.nn.functional, activation)
    bounds.assert_same(got, apply(torch.stack(per_term)))
