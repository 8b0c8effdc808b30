"""Error bounds, so that no tolerance is chosen by hand.

A dtype rounds each result to relative u (`unit`): 2^-24 in float32, 2^-53 in float64, 2^-9 in bfloat16,
2^-11 in float16. An implementation may err twice as much as the plain step recurrence of the same
precision does on the same inputs, and by one band of a few roundings, since the order of sums is its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tests.support import oracle
from tests.support.assertions import assert_within

# Roundings of the band: the gate, its complement, g, the product, the sum, each way of a scan in pairs, and
# that torch's vectorised sigmoid, exp and log are good to about one unit and not one half.
BAND = 8

# Of a product of float32 on a tensor core, relative to the sum of the sizes of what it adds: tf32 cuts both factors off
# after 11 bits (no instruction rounds them before the product, and that ignores the others); tf32x3 leaves out the
# product of two remainders of 2^-11 each, and rounds the remainders to 11 bits; the kernel of a block cuts that of the
# first factor off.
PRODUCT_ERROR = {"tf32": 2 * 2.0**-10, "tf32x3": 3 * 2.0**-22, "tf32x3 cut": 4 * 2.0**-22, "ieee": 0.0}


def unit(dtype: torch.dtype) -> float:
    """Half the spacing of `dtype` at 1, relative."""
    return torch.finfo(dtype).eps / 2


def computed(dtype: torch.dtype) -> torch.dtype:
    """What the layers compute in: float32 for half precision."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def min_gru(
    x: Tensor,
    weight: Tensor,
    h0: Tensor | None = None,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    dtype: torch.dtype,
    space: str = "linear",
    bias: Tensor | None = None,
    elapsed: Tensor | None = None,
) -> Tensor:
    """A bound on |h - exact h| at every element, for inputs of `dtype` taken as exact.

    Errors are those of a channel (one hidden unit of one row): twice the largest of the plain steps plus
    BAND units of the largest |h|; and half a spacing of `dtype` at h, for the one rounding at the end. In
    logs a unit is one of log h, which is |log h| units of h; that of the largest state is taken.
    """
    inside = computed(dtype)
    exact, _ = oracle.min_gru(x, weight, h0, mask, reset, bias=bias, elapsed=elapsed)
    plain, _ = oracle.min_gru(x, weight, h0, mask, reset, bias=bias, elapsed=elapsed, dtype=inside, space=space)
    if x.shape[2] == 0:
        return exact
    start = torch.zeros_like(exact[:, :, :1]) if h0 is None else h0.double().abs()
    largest = torch.maximum(exact.abs().amax(2, keepdim=True), start)
    tiny = torch.finfo(torch.float64).tiny
    size = 1 + largest.clamp(min=tiny).log().abs() if space == "log" else torch.ones_like(largest)
    error = (plain.double() - exact).abs().amax(2, keepdim=True)
    return 2 * error + BAND * unit(inside) * size * largest + unit(dtype) * exact.abs() + torch.finfo(dtype).tiny


def gradient(exact: Tensor, same_dtype: Tensor, dtype: torch.dtype) -> float:
    """A bound on the norm of a gradient's error: twice that of the step recurrence in the same dtype, and
    one band (float32 sums differ in order; a half is rounded once on the way out)."""
    band = BAND * unit(computed(dtype)) + unit(dtype)
    return float(2 * (same_dtype.double() - exact).norm() + band * exact.norm()) + torch.finfo(dtype).tiny


def assert_same(got: object, expected: object) -> None:
    """Two evaluations of one function, which differ in the order of their operations alone.

    Each rounds at most a few thousand times on the way to a number (40 steps, products of 8 numbers and
    their gradients, some 10 operations a step), relative to numbers no larger than 30 times the largest
    result: 1e5 units of that, which is 1e-11 in float64.
    """
    __tracebackhide__ = True
    pairs = zip(got, expected, strict=True) if isinstance(got, tuple | list) else [(got, expected)]  # type: ignore[arg-type]
    for i, (a, b) in enumerate(pairs):
        assert a.dtype == b.dtype, f"result {i}: {a.dtype}, expected {b.dtype}"
        largest = float(b.detach().abs().max()) if b.numel() else 0.0
        assert_within(f"result {i}", a, b, 1e5 * unit(b.dtype) * largest)
