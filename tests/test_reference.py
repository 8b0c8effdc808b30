"""The recurrence itself: values and derivatives against the float64 steps, at every length and extreme."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import rnam
from benchmarks.providers import published
from rnam import reference
from rnam.functional import grouped_linear, linear_scan, log_scan, min_gru
from tests.support import bounds, inputs, oracle
from tests.support.assertions import assert_equal, assert_finite, assert_norm_within, assert_within

SPACES = ("linear", "log")


@pytest.fixture(autouse=True, params=["reference", "torch"])
def _backend(request: pytest.FixtureRequest) -> Iterator[None]:
    """What holds for the reference holds for the blocks, which the formulas of the reference define."""
    with rnam.set_backend(request.param):
        yield


# 16 is walked, 17 halved once, 40 twice with an odd length in between
LENGTHS = (1, 2, 3, 15, 16, 17, 33, 40, 75)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("seq", LENGTHS)
def test_min_gru_is_the_step_recurrence(seq: int, dtype: torch.dtype, space: str) -> None:
    x, w, h0 = inputs.layer_inputs(3, 2, seq, 4, 5, seed=seq, dtype=dtype)
    h0 = h0.abs()
    mask, reset = inputs.mask_and_reset(3, 2, seq, seed=seq)
    for m, r in itertools.product((None, mask), (None, reset)):
        h, h_last = min_gru(x, w, h0, mask=m, reset=r, space=space)
        exact, exact_last = oracle.min_gru(x, w, h0, m, r)
        bound = bounds.min_gru(x, w, h0, m, r, dtype=dtype, space=space)
        assert_within("h", h, exact, bound)
        assert_equal("h_last", h_last, h[:, :, -1:])
        assert_within("h_last", h_last, exact_last, bound[:, :, -1:])


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("seq", [3, 18])
def test_min_gru_derivatives(seq: int, space: str) -> None:
    x, w, h0 = inputs.layer_inputs(2, 1, seq, 2, 1, seed=1)
    x = inputs.away_from_the_kink(x, w)
    h0 = h0.abs() + 0.1
    mask, reset = inputs.mask_and_reset(2, 1, seq)
    arguments = [t.requires_grad_() for t in (x, w, h0)]

    def plain(x: Tensor, w: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        return min_gru(x, w, h0, space=space)

    def edited(x: Tensor, w: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        return min_gru(x, w, h0, mask=mask, reset=reset, space=space)

    for function in (plain, edited):
        assert gradcheck(function, arguments)
        assert gradgradcheck(function, arguments)


@pytest.mark.parametrize("space", SPACES)
def test_the_state_has_its_gradient_at_zero(space: str) -> None:
    """log h0 has no derivative at h0 = 0; the layer has, the product of the coefficients."""
    x, w, _ = inputs.layer_inputs(2, 2, 20, 3, 4, seed=2)
    h0 = torch.zeros(2, 2, 1, 4, dtype=torch.float64, requires_grad=True)
    exact = torch.autograd.grad(oracle.min_gru(x, w, h0)[0].sum(), h0)
    assert exact[0].abs().min() > 0
    bounds.assert_same(torch.autograd.grad(min_gru(x, w, h0, space=space)[0].sum(), h0), exact)


@pytest.mark.parametrize("space", SPACES)
def test_the_slope_at_the_kink_is_one(space: str) -> None:
    """x = 0, so u = 0 and z = 1/2: du = 1/2 of what comes in, where the other side's slope would give 1/8."""
    x = torch.zeros(1, 1, 1, 1, requires_grad=True)
    h, _ = min_gru(x, torch.tensor([[[1.0, 0.0]]]), space=space)
    (grad,) = torch.autograd.grad(h.sum(), x)
    assert grad.item() == 0.5


def test_the_bound_is_tight_enough_to_tell() -> None:
    """It refuses the published form at 75 steps, and the gate's complement taken as 1 - z."""
    x, w, _ = inputs.layer_inputs(3, 2, 75, 4, 5, seed=75, dtype=torch.float32)
    exact, _ = oracle.min_gru(x, w)
    bound = bounds.min_gru(x, w, dtype=torch.float32, space="log")
    assert (published.min_gru(x, w).double() - exact).abs().sub(bound).max() > 0
    x = torch.cat([x, torch.ones_like(x[..., :1])], -1)
    w = torch.cat([w, torch.zeros_like(w[:, :1])], 1)
    w[:, -1, 5:] = 8  # gates of mean 8
    u, k = torch.einsum("fbtd,fdh->fbth", x, w).chunk(2, -1)
    z = torch.sigmoid(k)
    cancelled = linear_scan(
        1 - z, z * torch.where(u >= 0, u + 0.5, torch.sigmoid(u)), torch.full_like(k[:, :, :1], 1e6)
    )
    h0 = torch.full((3, 2, 1, 5), 1e6)
    error = (cancelled.double() - oracle.min_gru(x, w, h0)[0]).abs()[:, :, 0]
    own = (min_gru(x, w, h0)[0].double() - oracle.min_gru(x, w, h0)[0]).abs()[:, :, 0]
    assert error.max() > 10 * own.max()


@pytest.mark.parametrize("space", SPACES)
def test_an_infinite_state_is_infinite_in_both_spaces(space: str) -> None:
    x = torch.full((1, 1, 20, 1), 3e38)
    h, _ = min_gru(x, torch.tensor([[[2.0, 1e-38]]]), space=space)  # u overflows, the gate is 0.95
    assert (h == torch.inf).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("space", SPACES)
def test_gradients_of_every_floating_input(space: str, dtype: torch.dtype) -> None:
    x, w, h0 = inputs.layer_inputs(3, 4, 37, 4, 5, seed=3)
    # rounded first, so that the oracle sees the same inputs and the same side of the kink
    x, w, h0 = (t.to(dtype) for t in (inputs.away_from_the_kink(x, w, 0.05), w, h0.abs()))
    gh, gl = torch.randn(3, 4, 37, 5, dtype=torch.float64), torch.randn(3, 4, 1, 5, dtype=torch.float64)
    gh = gh.to(dtype).double()

    def gradients(function: object, cast: torch.dtype) -> list[Tensor]:
        arguments = [t.detach().to(cast).requires_grad_() for t in (x, w, h0)]
        h, h_last = function(*arguments)  # type: ignore[operator]
        loss = (h.double() * gh).sum() + (h_last.double() * gl).sum()
        return list(torch.autograd.grad(loss, arguments))

    exact = gradients(oracle.min_gru, torch.float64)
    plain = bounds.computed(dtype)
    stepwise = gradients(lambda *t: oracle.min_gru(*t, dtype=plain), plain)
    own = gradients(lambda x, w, h0: min_gru(x, w, h0, space=space), dtype)
    for name, got, step, reference_ in zip(("x", "w", "h0"), own, stepwise, exact, strict=True):
        assert got.dtype == dtype
        assert_norm_within(name, got, reference_, bounds.gradient(reference_, step, dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("space", SPACES)
def test_halves_are_rounded_once(space: str, dtype: torch.dtype) -> None:
    x, w, h0 = inputs.layer_inputs(3, 4, 75, 4, 5, seed=4, dtype=dtype)
    h0 = h0.abs().float()
    h, h_last = min_gru(x, w, h0, space=space)
    assert (h.dtype, h_last.dtype) == (dtype, torch.float32)
    exact, exact_last = oracle.min_gru(x, w, h0)
    assert_within("h", h, exact, bounds.min_gru(x, w, h0, dtype=dtype, space=space))
    in_float32 = bounds.min_gru(x, w, h0, dtype=torch.float32, space=space)[:, :, -1:]
    assert_within("h_last", h_last, exact_last, in_float32)
    same = min_gru(x, w, h0.to(dtype), space=space)[1]
    assert same.dtype == torch.float32


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("sizes", [[1] * 40, [16, 24], [1, 17, 22], [39, 1]], ids=str)
def test_chunks_are_the_whole(sizes: list[int], space: str) -> None:
    x, w, h0 = inputs.layer_inputs(3, 2, 40, 4, 5, seed=5)
    h0 = h0.abs()
    arguments = [t.requires_grad_() for t in (x, w, h0)]
    weights = torch.randn(3, 2, 40, 5, dtype=torch.float64)

    def chunked(x: Tensor) -> tuple[Tensor, Tensor]:
        state, parts = h0, []
        for part in x.split(sizes, dim=2):
            h, state = min_gru(part, w, state, space=space)
            parts.append(h)
        return torch.cat(parts, dim=2), state

    whole, pieces = min_gru(x, w, h0, space=space), chunked(x)
    bound = bounds.min_gru(x.detach(), w.detach(), h0.detach(), dtype=torch.float64, space=space)
    for name, a, b, limit in zip(("h", "h_last"), whole, pieces, (bound, bound[:, :, -1:]), strict=True):
        assert_within(name, a, b, 2 * limit)
    grads = [torch.autograd.grad((h * weights).sum() + s.sum(), arguments) for h, s in (whole, pieces)]
    for a, b in zip(*grads, strict=True):
        bounds.assert_same(a, b)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("mean", [0.0, 6.0])
def test_error_does_not_grow_with_length(space: str, mean: float) -> None:
    """The published cumsum form is at 0.12 here (0.67 with gates of mean 6); budget 2e-6, the target."""
    steps = 1_000_000
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, steps, 2, generator=rng)
    x[..., 1] += mean
    w = torch.eye(2)[None]  # one hidden unit: u and k are the inputs themselves, without rounding
    h, _ = min_gru(x, w, space=space)
    z, a = torch.sigmoid(x[0, 0, :, 1].double()), torch.sigmoid(-x[0, 0, :, 1].double())
    u = x[0, 0, :, 0].double()
    b = z * torch.where(u >= 0, u + 0.5, torch.sigmoid(u))
    state, exact = 0.0, []
    for coefficient, value in zip(a.tolist(), b.tolist(), strict=True):
        state = coefficient * state + value
        exact.append(state)
    reference_ = torch.tensor(exact, dtype=torch.float64)
    assert_within("h", h[0, 0, :, 0], reference_, 2e-6 * reference_.abs())


@pytest.mark.parametrize("start", [-3.0, 0.0, 1e-30, 1e30, -1e30])
def test_initial_states(start: float) -> None:
    x, w, _ = inputs.layer_inputs(2, 3, 20, 3, 4, seed=6, dtype=torch.float32)
    h0 = torch.full((2, 3, 1, 4), start)
    for space in SPACES if start >= 0 else ("linear",):
        h, _ = min_gru(x, w, h0, space=space)
        bound = bounds.min_gru(x, w, h0, dtype=torch.float32, space=space)
        assert_within(space, h, oracle.min_gru(x, w, h0)[0], bound)


def test_a_negative_state_is_nan_in_logs() -> None:
    x, w, _ = inputs.layer_inputs(1, 1, 4, 3, 4)
    h, _ = min_gru(x, w, torch.full((1, 1, 1, 4), -1.0, dtype=torch.float64), space="log")
    assert h.isnan().all()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("gate", [1e4, -1e4, torch.inf, -torch.inf])
@pytest.mark.parametrize("seq", [4, 40])
def test_extreme_gates(seq: int, gate: float, space: str) -> None:
    """A gate of +inf writes g(u) and one of -inf keeps the state; at 1e4 gradients are finite too.

    An infinite gate comes from the scans here: in the projection inf * 0 would be NaN.
    """
    u = torch.randn(1, 2, seq, 1, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    k = torch.full_like(u, gate)
    x = torch.cat([u, torch.ones_like(u)], dim=-1)
    h0 = torch.full((1, 2, 1, 1), 0.7, dtype=torch.float64)
    kept = torch.full_like(u, 0.7)
    written = torch.where(u >= 0, u + 0.5, torch.sigmoid(u))
    expected = kept if gate < 0 else written
    if abs(gate) != torch.inf:
        w = torch.tensor([[[1.0, 0.0], [0.0, gate]]], dtype=torch.float64)
        arguments = [t.requires_grad_() for t in (x, w, h0)]
        h, _ = min_gru(*arguments, space=space)
        assert_finite("gradients", torch.autograd.grad(h.sum(), arguments))
    elif space == "linear":
        h = linear_scan(torch.sigmoid(-k), torch.sigmoid(k) * written, h0)
    else:
        h = log_scan(-torch.nn.functional.softplus(k), torch.nn.functional.logsigmoid(k) + written.log(), h0.log())
        h = h.exp()
    bounds.assert_same(h, expected)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("seq", [12, 40, 75])
def test_nan_goes_forward_only(seq: int, space: str) -> None:
    x, w, _ = inputs.layer_inputs(2, 2, seq, 3, 4, seed=8)
    clean, _ = min_gru(x, w, space=space)
    for at in (0, seq // 2, seq - 1):
        dirty = x.clone()
        dirty[1, 0, at, 2] = torch.nan
        h, h_last = min_gru(dirty, w, space=space)
        assert h[1, 0, at:].isnan().all()
        assert h_last[1, 0].isnan().all()
        bounds.assert_same(h[1, 0, :at], clean[1, 0, :at])
        bounds.assert_same(h[1, 1], clean[1, 1])
        bounds.assert_same(h[0], clean[0])


@pytest.mark.parametrize("seq", LENGTHS)
def test_linear_scan(seq: int) -> None:
    rng = torch.Generator().manual_seed(seq)
    a, b, h0 = (torch.randn(2, 3, n, 4, generator=rng, dtype=torch.float64) for n in (seq, seq, 1))
    # coefficients up to 3: sizes grow like the products, so the comparison is relative to the largest
    exact = oracle.scan(a, b, h0)
    absolute = oracle.scan(a.abs(), b.abs(), h0.abs())  # what rounding is relative to
    assert_within("h", linear_scan(a, b, h0), exact, (2 * seq + 16) * 2.0**-53 * absolute)
    torch.testing.assert_close(linear_scan(a, b), linear_scan(a, b, torch.zeros_like(h0)), rtol=0, atol=0)
    if seq in (3, 17):
        arguments = [t[:1, :1].clone().requires_grad_() for t in (a.tanh(), b, h0)]
        assert gradcheck(linear_scan, arguments)
        assert gradgradcheck(linear_scan, arguments)


@pytest.mark.parametrize("seq", LENGTHS)
def test_log_scan(seq: int) -> None:
    """Values whose exponentials overflow a float32 a thousand times over, and -inf in every argument."""
    rng = torch.Generator().manual_seed(seq)
    la, lb, lh0 = (torch.randn(2, 3, n, 4, generator=rng, dtype=torch.float64) * 3 for n in (seq, seq, 1))
    lb, lh0 = lb + 1e5, lh0 + 1e5
    for t in (la, lb, lh0):
        t[torch.rand(t.shape, generator=rng) < 0.3] = -torch.inf
    lb[0, 0] = lh0[0, 0] = -torch.inf  # a state that is empty throughout
    got, exact = log_scan(la, lb, lh0), oracle.scan(la, lb, lh0, log=True)
    assert torch.equal(got == -torch.inf, exact == -torch.inf)
    # each step rounds numbers of size 1e5, by half a unit each of the sum and of the result
    live = exact > -torch.inf
    assert_within("h", got, exact, (seq + 8) * 2.0**-52 * exact.abs(), where=live)
    no_state = log_scan(la, lb)
    assert torch.equal(no_state, log_scan(la, lb, torch.full_like(lh0, -torch.inf)))


@pytest.mark.parametrize("seq", LENGTHS)
def test_log_scan_gradients_where_states_are_empty(seq: int) -> None:
    rng = torch.Generator().manual_seed(seq)
    la, lb, lh0, grad = (torch.randn(2, 3, n, 4, generator=rng, dtype=torch.float64) for n in (seq, seq, 1, seq))
    for t in (la, lb, lh0):
        t[torch.rand(t.shape, generator=rng) < 0.4] = -torch.inf
    lb[0, 0] = lh0[0, 0] = -torch.inf
    arguments = [t.requires_grad_() for t in (la, lb, lh0)]
    got = torch.autograd.grad(log_scan(*arguments), arguments, grad)
    la, lb, lh0 = (t.detach() for t in arguments)
    exact = oracle.scan_adjoint(la, lb, lh0, oracle.scan(la, lb, lh0, log=True), grad, log=True)
    for e in exact:
        assert_equal("gradient of an empty state", e[0, 0], 0)
    for a, b in zip(got, exact, strict=True):
        bounds.assert_same(a, b)


def test_log_scan_derivatives() -> None:
    rng = torch.Generator().manual_seed(0)
    for seq in (3, 18):
        arguments = [torch.randn(1, n, 2, generator=rng, dtype=torch.float64).requires_grad_() for n in (seq, seq, 1)]
        assert gradcheck(log_scan, arguments)
        assert gradgradcheck(log_scan, arguments)


def test_logaddexp_at_ties_and_infinities() -> None:
    x = torch.tensor([0.5, -torch.inf, -torch.inf, 2.0, torch.inf], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0.5, -torch.inf, 1.0, -torch.inf, 0.0], dtype=torch.float64, requires_grad=True)
    out = reference.logaddexp(x, y)
    torch.testing.assert_close(out, torch.logaddexp(x, y))
    (gx, gy) = torch.autograd.grad(out[:4].sum(), (x, y), create_graph=True)
    torch.testing.assert_close(gx.detach()[:4], torch.tensor([0.5, 0.0, 0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(gy.detach()[:4], torch.tensor([0.5, 0.0, 1.0, 0.0], dtype=torch.float64))
    (second,) = torch.autograd.grad(gx[:4].sum(), x)
    torch.testing.assert_close(second[:4], torch.tensor([0.25, 0.0, 0.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_scans_of_halves_are_rounded_once(dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    a, b, h0 = (torch.rand(2, n, 4, generator=rng).to(dtype) for n in (50, 50, 1))
    for start in (h0, h0.float()):
        h = linear_scan(a, b, start)
        exact = oracle.scan(a.double(), b.double(), start)
        assert h.dtype == dtype
        # one rounding to the half, and the scan's own in float32: positive terms, so relative to h
        assert_within("h", h, exact, (bounds.unit(dtype) + 120 * 2.0**-24) * exact)
        log_h = log_scan(a.log(), b.log(), start.log())
        exact = oracle.scan(a.log().double(), b.log().double(), start.log(), log=True)
        limit = bounds.unit(dtype) * exact.abs() + 120 * 2.0**-24 * (1 + exact.abs())
        assert_within("log h", log_h, exact, limit)


@pytest.mark.parametrize("activation", [None, "relu", "gelu", "silu"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_grouped_linear(activation: str | None, with_bias: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    x, w = (torch.randn(*s, generator=rng, dtype=torch.float64) for s in ((3, 2, 5, 4), (3, 4, 6)))
    bias = torch.randn(3, 1, 6, generator=rng, dtype=torch.float64) if with_bias else None
    apply = {None: lambda t: t}.get(activation) or getattr(torch.nn.functional, str(activation))
    got = grouped_linear(x, w, bias, activation)
    for f in range(3):
        own = None if bias is None else bias[f, 0]
        bounds.assert_same(got[f], apply(torch.nn.functional.linear(x[f], w[f].T, own)))
    arguments = [t.requires_grad_() for t in (x[:, :, :2].clone(), w) + (() if bias is None else (bias,))]

    def function(*tensors: Tensor) -> Tensor:
        return grouped_linear(tensors[0], tensors[1], tensors[2] if with_bias else None, activation)

    assert gradcheck(function, arguments)
    assert gradgradcheck(function, arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_grouped_linear_rounds_once(dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(*s, generator=rng).to(dtype) for s in ((3, 50, 7), (3, 7, 6), (3, 1, 6)))
    got = grouped_linear(x, w, b, "gelu")
    before = x.double() @ w.double() + b.double()
    size = x.double().abs() @ w.double().abs() + b.double().abs()
    exact = torch.nn.functional.gelu(before)
    # eight terms in float32, gelu's slope is at most 1.13, erf is good to a few units, then one rounding
    limit = (1.13 * 9 + 4) * 2.0**-24 * (size + 1) + bounds.unit(dtype) * exact.abs()
    assert got.dtype == dtype
    assert_within("y", got, exact, limit)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(("batch", "seq"), [(0, 5), (3, 0), (0, 0)])
def test_empty(batch: int, seq: int, space: str) -> None:
    w = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, batch, seq, 3, dtype=torch.float64, requires_grad=True)
    h0 = torch.rand(2, batch, 1, 4, dtype=torch.float64, requires_grad=True)
    h, h_last = min_gru(x, w, h0, space=space)
    assert h.shape == (2, batch, seq, 4)
    assert h_last.data_ptr() != h0.data_ptr() or batch == 0
    gx, gw, gh0 = torch.autograd.grad(h.sum() + 2 * h_last.sum(), (x, w, h0))
    assert (gx.shape, gh0.shape) == (x.shape, h0.shape)
    assert (gw == 0).all()
    if seq == 0:
        assert torch.equal(h_last, h0)
        assert (gh0 == 2).all()
        assert torch.equal(min_gru(x, w, space=space)[1], torch.zeros_like(h0))
    empty = torch.empty(2, batch, seq, 4, dtype=torch.float64)
    assert linear_scan(empty, empty, h0).shape == log_scan(empty, empty, h0).shape == empty.shape
    bias = torch.zeros(2, 1, 8, dtype=torch.float64)
    assert grouped_linear(x, w, bias, "relu").shape == (2, batch, seq, 8)


def test_h_last_is_a_tensor_of_its_own() -> None:
    x, w, _ = inputs.layer_inputs(2, 2, 5, 3, 4)
    h, h_last = min_gru(x, w)
    before = h.clone()
    h_last.zero_()
    assert torch.equal(h, before)
    assert h_last.untyped_storage().nbytes() == h_last.numel() * h_last.element_size()
