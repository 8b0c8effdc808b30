"""Activations of the grouped linear layers and their slopes: on float32 tiles, and by PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from torch.nn.functional import gelu, silu

from .arithmetic import LOG2E, rcp
from .device import device


@device
def _erf(x):
    """erf(x) to 8e-8: x + x P(x^2) up to 1, 1 - 2^Q(|x|) above, with polynomials interpolated at Chebyshev nodes in
    float64.

    Both sides are computed and one selected: tl.erf branches, and a warp's lanes take both branches anyway.
    """
    size = tl.abs(x)
    square = x * x
    p = square * 7.88249711e-05 - 0.000801885499
    p = p * square + 0.00518931194
    p = p * square - 0.0268543288
    p = p * square + 0.112835975
    p = p * square - 0.376126269
    p = p * square + 0.128379166
    t = tl.minimum(size, 4.0)  # 1 - erf(4) is 1.5e-8, less than half a unit in the last place of 1
    q = t * 2.32859866e-06 - 6.57733648e-05
    q = q * t + 0.000855185671
    q = q * t - 0.00683869526
    q = q * t + 0.038036247
    q = q * t - 0.158665069
    q = q * t - 0.911692511
    q = q * t - 1.63048586
    q = q * t + 0.000437443845
    q = 1.0 - tl.exp2(q)
    return tl.where(size > 1.0, tl.where(x < 0.0, -q, q), x * p + x)


@device
def activate(y, ACTIVATION: tl.constexpr):
    """act(y); y without an activation. NaN stays NaN."""
    if ACTIVATION is None:
        return y
    elif ACTIVATION == "relu":
        return tl.maximum(y, 0.0, propagate_nan=tl.PropagateNan.ALL)
    elif ACTIVATION == "gelu":
        return 0.5 * y * (1.0 + _erf(y * 0.7071067811865476))
    elif ACTIVATION == "silu":
        return y * rcp(1.0 + tl.exp2(y * -LOG2E))
    else:
        tl.static_assert(False, "activate: an activation without a formula")


@device
def activation_slope(y, ACTIVATION: tl.constexpr):
    """act'(y). Not called without an activation."""
    if ACTIVATION == "relu":
        return tl.where(y <= 0.0, 0.0, 1.0)
    elif ACTIVATION == "gelu":
        density = 0.3989422804014327 * tl.exp2(-0.5 * y * y * LOG2E)
        return 0.5 * (1.0 + _erf(y * 0.7071067811865476)) + y * density
    elif ACTIVATION == "silu":
        s = rcp(1.0 + tl.exp2(y * -LOG2E))
        return s * (1.0 + y * (1.0 - s))
    else:
        tl.static_assert(False, "activation_slope: an activation without a formula")


@dataclass(frozen=True)
class Activation:
    """The same by PyTorch, for layers that are too wide for the kernels."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]  # (dy, y) -> dy act'(y)


_aten: Any = torch.ops.aten

ACTIVATIONS = {
    "relu": Activation(torch.relu, lambda dy, y: _aten.threshold_backward(dy, y, 0)),
    "gelu": Activation(gelu, lambda dy, y: _aten.gelu_backward(dy, y)),
    "silu": Activation(silu, lambda dy, y: _aten.silu_backward(dy, y)),
}


def check_activation(activation: str | None) -> None:
    """Raises for a name that is not in the table."""
    if activation is not None and activation not in ACTIVATIONS:
        raise ValueError(f"activation: expected None or one of {tuple(ACTIVATIONS)}, got {activation!r}")
