"""Error budgets of the tests that compare a scan with float64."""

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
