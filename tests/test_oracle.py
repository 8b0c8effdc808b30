"""The oracle's own short cuts and definitions, against its literal loop and against formulas written out here."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.support import inputs, oracle

# Sums of float64 over up to 100 steps, in another order.
CLOSE = dict(rtol=1e-11, atol=1e-13)


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "SEGMENT", 4)


def _with_gradients(h: Tensor, leaves: list[Tensor], dh: Tensor) -> list[Tensor]:
    return [h.detach(), *torch.autograd.grad(h, leaves, dh)]


# below a segment, one, with a rest, and as many segments as take segments of their own
@pytest.mark.parametrize("steps", [1, 3, 4, 7, 16, 21, 75])
@pytest.mark.parametrize("state", [False, True])
def test_a_long_scan_is_the_loop_and_its_gradient(steps: int, state: bool) -> None:
    rng = torch.Generator().manual_seed(steps)
    a, b, dh, h0 = (torch.randn(2, 3, n, 5, generator=rng, dtype=torch.float64) for n in (steps, steps, steps, 1))
    a[torch.rand(a.shape, generator=rng) < 0.1] = 0.0
    leaves = [t.requires_grad_() for t in ((a, b, h0) if state else (a, b))]
    got = _with_gradients(oracle.long_scan(*leaves), leaves, dh)
    want = _with_gradients(oracle.scan(*leaves), leaves, dh)
    for x, y in zip(got, want, strict=True):
        torch.testing.assert_close(x, y, **CLOSE)


@pytest.mark.parametrize("flagged", [False, True])
def test_a_long_recurrence_is_the_loop_and_its_gradient(flagged: bool) -> None:
    x, weight, h0 = inputs.layer_inputs(2, 3, 21, 3, 2)
    mask, reset = inputs.mask_and_reset(2, 3, 21) if flagged else (None, None)
    x = inputs.away_from_the_kink(x, weight)
    x = x if mask is None else torch.where(mask[..., None], x, torch.nan)
    dh, _, dh_last = inputs.layer_inputs(2, 3, 21, 2, 2, seed=1)
    leaves = [t.requires_grad_() for t in (x, weight, h0)]
    found = []
    for long in (True, False):
        h, h_last = oracle.min_gru(*leaves, mask, reset, long=long)
        found.append([h.detach(), h_last.detach(), *torch.autograd.grad((h, h_last), leaves, (dh, dh_last))])
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, **CLOSE)


def test_gates_are_the_published_formulas() -> None:
    """minGRU: (1 - z) h + z g(u). minLSTM: (f h + i g(u)) / (f + i), and 1/2 where both gates are 0 in float64."""
    u, k, other = (4 * torch.randn(1000, dtype=torch.float64) for _ in range(3))
    g = torch.where(u >= 0, u + 0.5, u.sigmoid())
    a, b = oracle.min_gru_gates(torch.cat([u, k]))
    torch.testing.assert_close(a, 1 - k.sigmoid(), **CLOSE)
    torch.testing.assert_close(b, k.sigmoid() * g, **CLOSE)
    for got, want in zip(oracle.min_gru_log_gates(torch.cat([u, k])), (a, b), strict=True):
        torch.testing.assert_close(got.exp(), want, **CLOSE)
    f, i = k.sigmoid(), other.sigmoid()
    a, b = oracle.min_lstm_gates(torch.cat([u, k, other]))
    torch.testing.assert_close(a, f / (f + i), **CLOSE)
    torch.testing.assert_close(b, i * g / (f + i), **CLOSE)
    a, b = oracle.min_lstm_gates(torch.tensor([0.5, -1e4, -1e4], dtype=torch.float64))
    assert (a.item(), b.item()) == (0.5, 0.5)


@pytest.mark.parametrize("log", [False, True])
def test_the_adjoint_is_the_gradient(log: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    leaves = [torch.rand(2, n, 3, generator=rng, dtype=torch.float64).requires_grad_() for n in (9, 9, 1)]
    dh = torch.randn(2, 9, 3, generator=rng, dtype=torch.float64)
    h = oracle.scan(*leaves, log=log)
    want = torch.autograd.grad(h, leaves, dh)
    for x, y in zip(oracle.scan_adjoint(*leaves, h, dh, log), want, strict=True):
        torch.testing.assert_close(x, y, **CLOSE)


def test_flags_are_masks_and_resets() -> None:
    mask, reset = oracle.decode(torch.tensor([0, oracle.MASKED, oracle.RESET, oracle.MASKED | oracle.RESET]))
    assert mask.tolist() == [True, False, True, False] and reset.tolist() == [False, False, True, True]
    assert oracle.decode(None) == (None, None)
