"""The arguments that the launchers of the fused kernels have in common."""

from typing import Any

import torch

from ..common.call import Recurrence
from ..common.config import LaunchConfig
from ..common.flags import check_flags
from ..common.operands import packed, stride_arguments, unit_stride, vector_unit


def readable(call: Recurrence, weight: torch.Tensor) -> Recurrence:
    """The call with copies of what the kernels cannot read as it is, and with `weight` in the place of its own: x needs
    an innermost stride of 1, h0 is contiguous."""
    h0 = None if call.h0 is None else call.h0.contiguous()
    return call._replace(input=unit_stride(call.input), weight=weight, h0=h0)


def shared_operands(
    call: Recurrence, precision: str, config: LaunchConfig, dh: torch.Tensor | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arguments, constants) of a `readable` call, and of dh with an innermost stride of 1."""
    x, flags = call.input, call.flags
    (F, B, T, D), H = x.shape, call.weight.shape[2] // 2
    check_flags(flags, F, B, T)
    unit = vector_unit(x, dh)
    arguments = dict(
        x_ptr=x, w_ptr=call.weight, flags_ptr=flags, B=B, T=T,
        **stride_arguments("fbt", unit, x=x), **stride_arguments("fbt", flags=flags),
    )  # fmt: skip
    constants = dict(
        D=D, H=H, HAS_FLAGS=flags is not None, EVEN=config.divides(B, T), PACKED=packed(x) and packed(dh), UNIT=unit,
        PRECISION=precision, **config.tiles(D, H),
    )  # fmt: skip
    return arguments, constants
