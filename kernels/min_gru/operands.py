"""What the launchers of the minGRU's kernels share."""

from typing import Any

import torch

from ..common.config import LaunchConfig
from ..common.flags import code_strides
from ..common.operands import packed, strides, unit


def common(
    x: torch.Tensor, weight: torch.Tensor, codes: torch.Tensor | None, dh: torch.Tensor | None, length: int, count: int,
    precision: str, config: LaunchConfig,
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """(arguments, constants) that the fused kernels share. x and dh have innermost stride 1, the weight is
    contiguous."""
    F, B, T, D = x.shape
    H = weight.shape[2] // 2
    n = unit(x, dh)
    arguments = dict(x_ptr=x, w_ptr=weight, code_ptr=codes, B=B, T=T, length=length, count=count)
    arguments |= zip(("stride_x_f", "stride_x_b", "stride_x_t"), (s // n for s in strides(x, 3)), strict=True)
    arguments |= zip(("stride_c_f", "stride_c_b", "stride_c_t"), code_strides(codes, F, B, T), strict=True)
    constants = dict(
        D=D, H=H, HAS_CODES=codes is not None, EVEN=config.divides(B, T), PACKED=packed(x) and packed(dh), UNIT=n,
        PRECISION=precision, **config.tiles(D, H),
    )  # fmt: skip
    return arguments, constants


def gradient_strides(dh: torch.Tensor | None, n: int) -> dict[str, int]:
    """The strides of dh in units of n elements, 0 without it."""
    return dict(
        zip(
            ("stride_g_f", "stride_g_b", "stride_g_t"),
            (0, 0, 0) if dh is None else (s // n for s in strides(dh, 3)),
            strict=True,
        )
    )
