"""Scans and their adjoints step by step in any dtype, and the budgets of the tests that compare with them in
float64."""

import torch
import triton

from tests.support.assertions import assert_norm_within, assert_within

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
    __tracebackhide__ = True
    assert_within("states", h, ref, state_budget(ref, ref.abs() if size is None else size, h.dtype), nan=True)


def assert_gradient(name: str, got: torch.Tensor, ref: torch.Tensor, same_dtype: torch.Tensor) -> None:
    """|got - ref| <= 2 |PyTorch in the same dtype - ref| + a rounding band of |ref|, in the 2-norm.

    float32: the adjoint is a scan of the same kind, so the band is that of the states. Halves: the rounding of the
    result and, at the same size, of one operand that was stored in the dtype (h, or p).
    """
    __tracebackhide__ = True
    assert got.dtype in ROUNDOFF, f"{name}: {got.dtype}"
    band = RELATIVE if got.dtype == torch.float32 else 2 * ROUNDOFF[got.dtype]
    assert_norm_within(name, got, ref, 2 * (same_dtype.double() - ref).norm() + band * ref.norm())


def gates_scan(
    p: torch.Tensor, h0: torch.Tensor | None, codes: torch.Tensor | None, parts: int = 2
) -> tuple[torch.Tensor, torch.Tensor]:
    """`oracle.min_gru` from its projection p [F, B, T, 2H] = (u | k), or with parts = 3 `oracle.min_lstm` from
    (u | k_f | k_i). p may be infinite; masked rows of it are not used."""
    (F, B, T), H = p.shape[:3], p.shape[3] // parts
    code = torch.zeros(1, 1, 1, dtype=torch.uint8) if codes is None else codes
    masked, reset = (((code & bit) != 0).expand(F, B, T)[..., None] for bit in (1, 2))
    u, *gates = torch.where(masked, 0.0, p).split(H, 3)
    if parts == 3:  # the quotient i / (f + i) is 0 / 0 in float64 too, from k = -746 on
        log_f, log_i = (torch.nn.functional.logsigmoid(k) for k in gates)
        k = log_i - log_f
    else:
        (k,) = gates
    a, b = (-k).sigmoid(), k.sigmoid() * torch.where(u >= 0, u + 0.5, u.sigmoid())
    state = torch.zeros(F, B, H, dtype=p.dtype) if h0 is None else h0[:, :, 0]
    states = []
    for t in range(T):
        before = torch.where(reset[:, :, t], 0.0, state)
        state = torch.where(masked[:, :, t], before, a[:, :, t] * before + b[:, :, t])
        states.append(state)
    return torch.stack(states, 2), state[:, :, None]
