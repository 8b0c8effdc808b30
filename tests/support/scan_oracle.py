"""Scans and their adjoints step by step in any dtype, and the budgets of the tests that compare with them in
float64."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import triton

from rnam.kernels.common.flags import MASKED, RESET

# Bounds of the error of a state, by the rule for float32: relative, plus a share of the channel's largest
# state.
RELATIVE = 2e-6
OF_LARGEST = 2e-7

# Rounding to nearest: half a unit in the last place, relative; below it, half the smallest step of the dtype. The
# interpreter cuts float32 off at bfloat16 where a GPU rounds: a whole unit.
ROUNDOFF = {
    torch.float32: 2.0**-24,
    torch.bfloat16: 2.0**-7 if triton.knobs.runtime.interpret else 2.0**-8,
    torch.float16: 2.0**-11,
}
SMALLEST = {torch.float32: 2.0**-150, torch.bfloat16: 2.0**-134, torch.float16: 2.0**-25}


def scan(a: torch.Tensor, b: torch.Tensor, h0: torch.Tensor | None, log: bool) -> torch.Tensor:
    """h [..., T, H] of the recurrence, or of its logarithms."""
    start = torch.full_like(b[..., :1, :], float("-inf") if log else 0.0) if h0 is None else h0.to(b.dtype)
    state, states = start[..., 0, :], []
    for a_t, b_t in zip(a.unbind(-2), b.unbind(-2), strict=True):
        state = torch.logaddexp(a_t + state, b_t) if log else a_t * state + b_t
        states.append(state)
    return torch.stack(states, -2)


def adjoint(
    a: torch.Tensor, b: torch.Tensor, h0: torch.Tensor | None, h: torch.Tensor, dh: torch.Tensor, log: bool
) -> tuple[torch.Tensor, ...]:
    """(da, db, dh0) by the formulas: with log p = q = 0 where h = -inf, where autograd gives NaN."""
    start = torch.full_like(b[..., :1, :], float("-inf") if log else 0.0) if h0 is None else h0.to(b.dtype)
    before = torch.cat([start, h[..., :-1, :]], -2)
    if log:
        empty = h == float("-inf")
        p = torch.where(empty, 0.0, (a + before - torch.where(empty, 0.0, h)).exp())
        q = torch.where(empty, 0.0, (b - torch.where(empty, 0.0, h)).exp())
    s, totals = torch.zeros_like(start[..., 0, :]), []
    for c_t, dh_t in zip(reversed((p if log else a).unbind(-2)), reversed(dh.unbind(-2)), strict=True):
        totals.append(dh_t + s)
        s = c_t * totals[-1]
    total = torch.stack(totals[::-1], -2)
    return (p if log else before) * total, q * total if log else total, s.unsqueeze(-2)


def state_budget(ref: torch.Tensor, size: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Largest allowed |h - ref|; `size` is what rounding errors are relative to: |ref|, or the same recurrence on
    absolute values."""
    finite = torch.where(size.isfinite(), size, 0.0)
    rounding = 0.0 if dtype == torch.float32 else ROUNDOFF[dtype] * ref.abs() + SMALLEST[dtype]
    return RELATIVE * finite + OF_LARGEST * finite.amax(-2, keepdim=True) + rounding


def assert_states(h: torch.Tensor, ref: torch.Tensor, size: torch.Tensor | None = None) -> None:
    """h equals ref where that is not finite, and is within its budget elsewhere."""
    h64 = h.double()
    special = ~ref.isfinite()
    assert torch.equal(torch.nan_to_num(h64[special], nan=7.0), torch.nan_to_num(ref[special], nan=7.0))
    excess = ((h64 - ref).abs() - state_budget(ref, ref.abs() if size is None else size, h.dtype))[~special]
    assert excess.numel() == 0 or (excess <= 0).all(), f"{excess.max():.2e} over the budget"


def assert_gradient(name: str, got: torch.Tensor, ref: torch.Tensor, same_dtype: torch.Tensor) -> None:
    """|got - ref| <= 2 |PyTorch in the same dtype - ref| + a rounding band of |ref|, in the 2-norm.

    float32: the adjoint is a scan of the same kind, so the band is that of the states. Halves: the rounding of the
    result and, at the same size, of one operand that was stored in the dtype (h, or p).
    """
    assert got.dtype in ROUNDOFF and not got.isnan().any(), f"{name} has NaN or a wrong dtype"
    error = (got.double() - ref).norm()
    band = RELATIVE if got.dtype == torch.float32 else 2 * ROUNDOFF[got.dtype]
    budget = 2 * (same_dtype.double() - ref).norm() + band * ref.norm()
    assert error <= budget, f"{name}: error {error:.2e} over {budget:.2e}"


class Cell(NamedTuple):
    """A cell as the oracle knows it: `step` gives (a, b) of h -> a h + b from the pre-activations."""

    num_preacts: int
    step: Callable[..., tuple[torch.Tensor, torch.Tensor]]


def candidate(u: torch.Tensor) -> torch.Tensor:
    """g(u) of a minGRU and a minLSTM."""
    return torch.where(u >= 0, u + 0.5, u.sigmoid())


def _min_lstm(u: torch.Tensor, k_f: torch.Tensor, k_i: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """By logarithms: the quotient i / (f + i) is 0 / 0 in float64 too, from k = -746 on."""
    k = torch.nn.functional.logsigmoid(k_i) - torch.nn.functional.logsigmoid(k_f)
    return (-k).sigmoid(), k.sigmoid() * candidate(u)


MIN_GRU = Cell(2, lambda u, k: ((-k).sigmoid(), k.sigmoid() * candidate(u)))
MIN_LSTM = Cell(3, _min_lstm)


def gates_scan(
    p: torch.Tensor, h0: torch.Tensor | None, flags: torch.Tensor | None, cell: Cell = MIN_GRU
) -> tuple[torch.Tensor, torch.Tensor]:
    """`oracle.min_gru`, or another cell, from its projection p [F, B, T, num_preacts * H]. p may be infinite; masked
    rows of it are not used."""
    (F, B, T), H = p.shape[:3], p.shape[3] // cell.num_preacts
    given = torch.zeros(1, 1, 1, dtype=torch.uint8) if flags is None else flags
    masked, reset = (((given & bit) != 0).expand(F, B, T)[..., None] for bit in (MASKED, RESET))
    a, b = cell.step(*torch.where(masked, 0.0, p).split(H, 3))
    state = torch.zeros(F, B, H, dtype=p.dtype) if h0 is None else h0[:, :, 0]
    states = []
    for t in range(T):
        before = torch.where(reset[:, :, t], 0.0, state)
        state = torch.where(masked[:, :, t], before, a[:, :, t] * before + b[:, :, t])
        states.append(state)
    return torch.stack(states, 2), state[:, :, None]
