"""Error bounds that follow from the arithmetic, so that no tolerance is chosen by hand.

A dtype rounds each result to relative u (`unit`): 2^-24 in float32, 2^-53 in float64, 2^-9 in bfloat16,
2^-11 in float16. The bounds are first order in u; SAFETY covers the rest (terms in u^2, and that torch's
sigmoid, exp and log are good to about two units and not one half).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.support import oracle

SAFETY = 2.0


def unit(dtype: torch.dtype) -> float:
    """Half the spacing of `dtype` at 1, relative."""
    return torch.finfo(dtype).eps / 2


def computed(dtype: torch.dtype) -> torch.dtype:
    """What the layers compute in: float32 for the halves."""
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
) -> Tensor:
    """A bound on |h - exact h| at every element, for inputs of `dtype` taken as exact.

    A dot product of n terms errs by n u sum|x w|. An error e of the gate moves z and a = 1 - z by
    z a e, and one of u moves v by at most e. The recurrence carries errors on with a, adding at every step

        |h_{t-1}| da + |v| dz + z dv + roundings of a, z v, the product and the sum (4 u each)

    A scan in pairs rounds once per level on the way down and up, hence the factor of 2 log2(T) + 16. In
    logs a coefficient's error is u |log|, which adds |log| to the roundings of what it multiplies.
    """
    u_ = unit(computed(dtype))
    terms, batch, seq, dim = x.shape
    hidden = weight.shape[2] // 2
    observed = oracle._full(mask, (terms, batch, seq), True)[..., None]
    x = torch.where(observed, x.double(), 0.0)
    w = weight.double()
    uk = torch.einsum("fbtd,fdh->fbth", x, w)
    e = (dim + 2) * u_ * torch.einsum("fbtd,fdh->fbth", x.abs(), w.abs())
    u, k, eu, ek = uk[..., :hidden], uk[..., hidden:], e[..., :hidden], e[..., hidden:]
    z, a, v = torch.sigmoid(k), torch.sigmoid(-k), torch.where(u >= 0, u + 0.5, torch.sigmoid(u))
    h, _ = oracle.min_gru(x, weight, h0, mask, reset)
    start = torch.zeros_like(h[:, :, :1]) if h0 is None else h0.double()
    before = torch.cat([start, h[:, :, :-1]], dim=2)
    rounding = torch.full_like(h, (2 * math.log2(max(seq, 2)) + 16) * u_)
    if space == "log":
        tiny = torch.finfo(torch.float64).tiny
        logs = [a, z, v, h.abs(), before.abs()]
        rounding = rounding * (1 + sum(torch.log(part.clamp(min=tiny)).abs().clamp(max=800) for part in logs))
    ea = z * a * ek + rounding * a
    eb = z * a * ek * v + z * eu + rounding * z * v
    step = before.abs() * ea + eb + rounding * h.abs()
    a = torch.where(observed, a, 1.0)
    step = torch.where(observed, step, rounding * h.abs())
    if reset is not None:
        a = torch.where(oracle._full(reset, (terms, batch, seq), False)[..., None], 0.0, a)
    bound = oracle.linear_scan(a, step) if seq else step
    return SAFETY * bound + unit(dtype) * h.abs() + torch.finfo(dtype).tiny


def gradient(exact: Tensor, same_dtype: Tensor, dtype: torch.dtype) -> float:
    """A bound on the norm of a gradient's error: twice that of the step recurrence in the same dtype, and
    one rounding band (float32 sums differ in order; a half is rounded once on the way out)."""
    band = 8 * unit(computed(dtype)) + unit(dtype)
    return float(2 * (same_dtype.double() - exact).norm() + band * exact.norm()) + torch.finfo(dtype).tiny
