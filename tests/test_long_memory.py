"""A state that gates hold for thousands of steps keeps its digits, wherever time is cut.

Blocks walk a few rows in segments of time, and the reference takes steps in pairs. Both join pieces by products of
a = sigmoid(-k), of which each is near 1 where gates are closed. The bound on the error of a row is twice that of plain
float32 steps h = a h + z g(u), and one band of roundings, for the states and for each gradient.

The weight picks u and k out of x, so that no projection rounds.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import rnam
from rnam import reference
from rnam.backends import cells
from rnam.backends.blocks import gates as block_gates
from rnam.backends.calls import Recurrence
from rnam.backends.cells import CELLS, Cell
from rnam.functional import linear_scan, min_gru, min_lstm, recurrence
from tests.support import bounds, inputs
from tests.support.assertions import assert_equal, assert_finite, assert_within

MEANS = [0, 6, -6, -9, -12, -16]
SHORT, LONG = [1_000, 10_000], [100_000, 1_000_000]
LENGTHS = [*SHORT, *(pytest.param(n, marks=pytest.mark.slow) for n in LONG)]
WAYS = [("torch", "linear"), ("reference", "linear"), ("reference", "log")]
CHANNELS = 4


class Row(NamedTuple):
    """One row: u and k (steps, channels), h0 (1, channels), the gradients dh and dh_last that come in, and the times
    (steps, 1), where they are not 1."""

    u: Tensor
    k: Tensor
    h0: Tensor
    dh: Tensor
    dh_last: Tensor
    elapsed: Tensor | None = None


NONE = torch.zeros(1)


class Result(NamedTuple):
    """The states and the gradients of a row; dw is that of the weight (2 channels, 2 channels), de that of the times, 0
    where there are none."""

    h: Tensor
    du: Tensor
    dk: Tensor
    dw: Tensor
    dh0: Tensor
    de: Tensor = NONE


def a_row(mean: float, steps: int, channels: int = CHANNELS, dtype: torch.dtype = torch.float32) -> Row:
    """Gates of this mean, k ~ N(mean, 1). u keeps away from the kink, and h0 is positive, for the log space."""
    rng = torch.Generator().manual_seed(steps)
    u, k, dh = (torch.randn(steps, channels, generator=rng) for _ in range(3))
    last, h0 = torch.randn(1, channels, generator=rng), torch.rand(1, channels, generator=rng)
    u = torch.where(u.abs() < 0.01, u + 0.05, u)
    return Row(*(x.to(dtype) for x in (u, k + mean)), h0 + 0.2, dh.to(dtype), last)


def over_times(row: Row) -> Row:
    """The row with times from a thousandth to a thousand, their logarithms uniform."""
    rng = torch.Generator().manual_seed(1)
    return row._replace(elapsed=torch.exp(6.9 * (2 * torch.rand(len(row.u), 1, generator=rng) - 1)))


def walk(coeffs: Tensor, values: Tensor, start: Tensor) -> Tensor:
    """h = coeff h + value, one step after the other in the dtype of the values."""
    a, b, h = coeffs.numpy(), values.numpy(), start.numpy()
    states = numpy.empty_like(b)
    for t in range(len(b)):
        h = numpy.multiply(a[t], h, out=states[t])
        numpy.add(h, b[t], out=h)
    return torch.from_numpy(states)


def by_steps(row: Row, dtype: torch.dtype) -> tuple[Result, Tensor]:
    """What plain steps of a precision give, and the largest |dL/dh| of each channel."""
    u, k, h0, dh, last = (x.to(dtype) for x in row[:5])
    a, z, s = torch.sigmoid(-k), torch.sigmoid(k), torch.sigmoid(u)
    rate, elapsed = -functional.logsigmoid(-k), None
    if row.elapsed is not None:
        elapsed = row.elapsed.to(dtype)
        a, z = (-elapsed * rate).exp(), -torch.expm1(-elapsed * rate)
    v = torch.where(u >= 0, u + 0.5, s)
    h = walk(a, z * v, h0[0])
    before = torch.cat([h0, h[:-1]])
    # lambda_t = dh_t + a_{t+1} lambda_{t+1}: a walk back, in which a belongs to the step after
    lam = walk(torch.cat([torch.ones_like(a[:1]), a.flip(0)[:-1]]), dh.flip(0), last[0]).flip(0)
    du = z * lam * torch.where(u >= 0, 1.0, s * (1 - s))
    slope = a * (v - before) * lam
    dk, de = z * slope, NONE.to(dtype)
    if elapsed is not None:
        dk, de = elapsed * torch.sigmoid(k) * slope, (rate * slope).sum(1, keepdim=True)
    dw = torch.cat([u, k], 1).T @ torch.cat([du, dk], 1)
    return Result(h, du, dk, dw, a[:1] * lam[:1], de), lam.abs().amax(0)


@functools.lru_cache(maxsize=2)
def expected(mean: float, steps: int, channels: int = CHANNELS) -> tuple[Result, Result]:
    """The float64 steps, and how far each result may be off: h at most anywhere, the others by their norm."""
    return bounded(a_row(mean, steps, channels))


def bounded(row: Row) -> tuple[Result, Result]:
    """As `expected`."""
    (exact, adjoint), (plain, _) = by_steps(row, torch.float64), by_steps(row, torch.float32)
    band = bounds.BAND * bounds.unit(torch.float32)
    error = Result(*(size(name, p.double() - e) for name, p, e in zip(Result._fields, plain, exact, strict=True)))
    scale = Result(*map(size, Result._fields, exact))._replace(dh0=adjoint.norm())
    return exact, Result(*(2 * e + band * s for e, s in zip(error, scale, strict=True)))


def size(name: str, x: Tensor) -> Tensor:
    return x.abs().max() if name == "h" else x.norm()


def run(row: Row, way: tuple[str, str], batch: int = 1) -> Result:
    """The row by a backend in a space, alone or as the last of a batch of rows with other numbers."""
    backend, space = way
    x = torch.cat([row.u, row.k], 1)[None, None]
    channels, others = row.u.shape[1], torch.randn(1, batch - 1, *x.shape[2:])
    x = torch.cat([others.to(x.dtype), x], 1)
    h0 = row.h0.expand(1, batch, 1, channels).contiguous()
    leaves = [t.requires_grad_() for t in (x, torch.eye(2 * channels, dtype=x.dtype)[None], h0)]
    times = None
    if row.elapsed is not None:
        times = row.elapsed[:, 0].expand(1, batch, -1).clone().requires_grad_()
        leaves.append(times)
    with rnam.set_backend(backend):
        h, h_last = min_gru(*leaves[:3], space=space, elapsed=times)
        grads = torch.autograd.grad([h[:, -1], h_last[:, -1]], leaves, [row.dh[None], row.dh_last[None]])
    if backend != "triton":  # whose tiles give both by maps of their own
        assert torch.equal(h_last[0, -1], h[0, -1, -1:]) or h.dtype != h_last.dtype
    dx, dw, dh0 = (g[0] for g in grads[:3])
    du, dk = dx[-1].chunk(2, dim=-1)
    return Result(h.detach()[0, -1], du, dk, dw, dh0[-1], NONE if times is None else grads[3][0, -1][:, None])


def check(got: Result, exact: Result, limit: Result) -> None:
    for name, g, e, most in zip(Result._fields, got, exact, limit, strict=True):
        error = size(name, g.double() - e)
        assert error <= most, f"{name}: {error / most:.2f} times the bound"


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("steps", LENGTHS)
def test_a_row_alone(steps: int, mean: float, way: tuple[str, str]) -> None:
    """And its states to an error that hardly grows. Plain steps round with every step that holds; a row alone has some
    24 of them within a segment, and as many from segment to segment. The figures are those of the README."""
    exact, limit = expected(mean, steps)
    got = run(a_row(mean, steps), way)
    check(got, exact, limit)
    assert_within("h", got.h, exact.h, (3e-6 if way[0] == "torch" else 2e-6) * exact.h.abs())


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@pytest.mark.parametrize("mean", [0, -6, -12])
@pytest.mark.parametrize("steps", LENGTHS)
def test_a_row_alone_over_times(steps: int, mean: float, way: tuple[str, str]) -> None:
    """The bound is that of the row whose steps are all 1, twice the plain steps and a band."""
    row = over_times(a_row(mean, steps))
    check(run(row, way), *bounded(row))


@pytest.mark.parametrize("channels", [CHANNELS, 32])
@pytest.mark.parametrize("mean", [0, -12])
def test_a_row_of_a_batch_over_times(mean: float, channels: int) -> None:
    row = over_times(a_row(mean, 1_000, channels))
    check(run(row, ("torch", "linear"), batch=64), *bounded(row))


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize(
    ("steps", "channels"),
    [(1_000, CHANNELS), (1_000, 32), pytest.param(10_000, 32, marks=pytest.mark.slow)],
)
def test_a_row_of_a_batch(steps: int, channels: int, mean: float) -> None:
    """Of 64, which 4 channels leave so narrow that time is cut, and 32 do not. The bound is that of the row alone."""
    check(run(a_row(mean, steps, channels), ("torch", "linear"), batch=64), *expected(mean, steps, channels))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_halves_are_rounded_once(way: tuple[str, str], dtype: torch.dtype) -> None:
    row = a_row(-9, 10_000, dtype=dtype)
    exact, _ = by_steps(row, torch.float64)
    got = run(row, way)
    limit = bounds.unit(dtype) + 4 * bounds.BAND * bounds.unit(torch.float32)
    assert_within("h", got.h, exact.h, limit * exact.h.abs())


# ---- what stays exact where time is cut ----


def flags(steps: int) -> tuple[Tensor, Tensor]:
    """Single masked steps, stretches of up to thousands, and resets inside of them and elsewhere."""
    rng = torch.Generator().manual_seed(steps)
    mask = torch.rand(3, steps, generator=rng) > 0.5
    for length in (30, 300, 3000):
        for start in torch.randint(steps - length, (3,), generator=rng).tolist():
            mask[:, start : start + length] = False
    return mask, torch.rand(3, steps, generator=rng) < 0.001


@pytest.mark.parametrize("mean", [0.0, -12.0])
@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_a_masked_step_holds_the_state_to_the_bit(backend: str, mean: float) -> None:
    """Across segments that are masked as a whole, and from a reset on."""
    steps = 20_000
    x, w, h0 = inputs.layer_inputs(1, 3, steps, 8, 4, dtype=torch.float32)
    w = torch.eye(8)[None]
    x[..., 4:] += mean
    mask, reset = flags(steps)
    x = torch.where(mask[..., None], x, torch.nan).requires_grad_()
    with rnam.set_backend(backend):
        h, h_last = min_gru(x, w, h0, mask=mask, reset=reset)
    (dx,) = torch.autograd.grad(h.sum() + h_last.sum(), x)
    before = torch.cat([h0, h[:, :, :-1]], dim=2)
    before = torch.where(reset[None, ..., None], 0, before)
    assert_equal("held", h[:, ~mask], before[:, ~mask])
    assert_equal("dx of masked steps", dx[:, ~mask], 0.0)
    assert_finite("dx", dx)


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_flags_within_the_bound(backend: str) -> None:
    """The observed steps after the last reset are a row of their own."""
    steps, mean = 20_000, -12
    row = a_row(mean, steps)
    mask, reset = (flag[:1] for flag in flags(steps))
    x = torch.cat([row.u, row.k], 1)[None, None]
    with rnam.set_backend(backend):
        _, h_last = min_gru(x, torch.eye(2 * CHANNELS)[None], row.h0[None, None], mask=mask, reset=reset)
    last = int(reset[0].nonzero()[-1])
    seen = torch.arange(steps)[mask[0] & (torch.arange(steps) >= last)]
    own = Row(row.u[seen], row.k[seen], torch.zeros_like(row.h0), row.dh[seen], row.dh_last)
    exact, plain = (by_steps(own, dtype)[0].h[-1:] for dtype in (torch.float64, torch.float32))
    limit = 2 * (plain - exact).abs() + bounds.BAND * bounds.unit(torch.float32) * exact.abs()
    assert_within("h_last", h_last[0, 0], exact, limit)


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_a_nan_goes_forward_only(backend: str) -> None:
    steps, at = 20_000, 7_777
    x, w, _ = inputs.layer_inputs(1, 2, steps, 3, 4, dtype=torch.float32)
    with rnam.set_backend(backend):
        clean, _ = min_gru(x, w)
        x[0, 0, at] = torch.nan
        h, h_last = min_gru(x, w)
    assert h[0, 0, at:].isnan().all() and h_last[0, 0].isnan().all()
    h[0, 0, at:] = clean[0, 0, at:]
    torch.testing.assert_close(h, clean, rtol=1e-6, atol=1e-6)  # a product beside a NaN is another order of sums


def test_closed_gates_hold_the_state_to_the_bit() -> None:
    steps = 50_000
    x, h0 = torch.ones(1, 1, steps, 2), torch.linspace(0.1, 3, 4).view(1, 1, 1, 4)
    w = torch.cat([torch.ones(1, 2, 4), torch.full((1, 2, 4), -20.0)], 2)
    for backend in ("torch", "reference"):
        with rnam.set_backend(backend):
            h, h_last = min_gru(x, w, h0)
        assert_equal("h", h, h0.expand_as(h))
        assert_equal("h_last", h_last, h0)


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_a_large_state_decays_to_its_last_digit(backend: str) -> None:
    """The product of a segment is small then, and has digits that 1 minus the rest has not."""
    steps = 1_000
    row = a_row(-2, steps)._replace(h0=torch.full((1, CHANNELS), 1e30))
    exact, plain = (by_steps(row, dtype)[0].h for dtype in (torch.float64, torch.float32))
    with rnam.set_backend(backend):
        h, _ = min_gru(torch.cat([row.u, row.k], 1)[None, None], torch.eye(2 * CHANNELS)[None], row.h0[None, None])
    error = ((plain.double() - exact) / exact).abs().amax(0)
    limit = 2 * error + bounds.BAND * bounds.unit(torch.float32) * (1 + 70)  # 1e30 is e^69
    assert_within("h", h[0, 0], exact, limit * exact.abs())


# ---- cells that know less ----


def _only(cell: Cell) -> Cell:
    """The same cell, of which a and b are all that is known."""

    def coefficients(preacts: list[Tensor], out: Tensor) -> tuple[Tensor, ...]:
        return cell.blocks.coefficients(preacts, out)[:2]

    blocks = block_gates.Gates(coefficients, cell.blocks.gates, cell.blocks.slopes)
    return Cell("only", 2, reference.Gates(cell.reference.coefficients), blocks, cell.kernels_path)


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("mean", MEANS)
def test_a_cell_that_has_a_and_b_alone(backend: str, mean: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks take 1 - a from a, which keeps the bound. The reference multiplies the a and loses up to 1e-5 to it."""
    monkeypatch.setitem(cells.CELLS, "only", _only(CELLS["mingru"]))
    steps = 10_000
    row = a_row(mean, steps)
    x = torch.cat([row.u, row.k], 1)[None, None]
    with rnam.set_backend(backend):
        h, _ = recurrence(Recurrence(x, torch.eye(2 * CHANNELS)[None], row.h0[None, None], cell="only"), None, None)
    exact, limit = expected(mean, steps)
    error = size("h", h[0, 0].double() - exact.h)
    assert error <= limit.h + (1e-5 if backend == "reference" else 0)


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("mean", MEANS)
def test_a_min_lstm(backend: str, mean: float) -> None:
    """Which is a minGRU with k = log(i / f), i and f the sigmoids of its gates."""
    row = a_row(mean, 10_000)
    f = row.dh
    k = functional.logsigmoid(row.k.double()) - functional.logsigmoid(f.double())
    exact, plain = (by_steps(row._replace(k=k), dtype)[0].h for dtype in (torch.float64, torch.float32))
    weight = torch.eye(3 * CHANNELS)[None]
    with rnam.set_backend(backend):
        h, _ = min_lstm(torch.cat([row.u, f, row.k], 1)[None, None], weight, row.h0[None, None])
    limit = 2 * (plain - exact).abs().max() + bounds.BAND * bounds.unit(torch.float32) * exact.abs().max()
    assert_within("h", h[0, 0], exact, limit)


def test_linear_scan_of_coefficients_alone() -> None:
    """The reference has their product in pairs; its docstring has this figure."""
    with rnam.set_backend("reference"):
        for mean in MEANS:
            row = a_row(mean, 10_000)
            a, b = torch.sigmoid(-row.k), torch.sigmoid(row.k) * row.u.exp()
            exact = walk(a.double(), b.double(), row.h0[0].double())
            assert_within(f"mean {mean}", linear_scan(a, b, row.h0), exact, 2e-5 * exact.amax(0))


@pytest.mark.parametrize("timed", [False, True])
def test_the_steps_of_this_file(timed: bool) -> None:
    """Against a tensor at a time, and autograd, in float64."""
    row = over_times(a_row(-2, 50)) if timed else a_row(-2, 50)
    given = (row.u, row.k, row.h0, *(() if row.elapsed is None else (row.elapsed,)))
    leaves = [x.double().requires_grad_() for x in given]
    u, k, h, *times = leaves
    states: list[Tensor] = []
    for t in range(len(u)):
        v = torch.where(u[t] >= 0, u[t] + 0.5, torch.sigmoid(u[t]))
        a = torch.sigmoid(-k[t]) if not times else torch.sigmoid(-k[t]) ** times[0][t]
        h = a * h + (1 - a) * v
        states.append(h)
    loss = (torch.cat(states) * row.dh).sum() + (h * row.dh_last).sum()
    found, _ = by_steps(row, torch.float64)
    bounds.assert_same(found.h, torch.cat(states).detach())
    own = (found.du, found.dk, found.dh0, found.de)[: len(leaves)]
    for got, by_autograd in zip(own, torch.autograd.grad(loss, leaves), strict=True):
        bounds.assert_same(got, by_autograd)
