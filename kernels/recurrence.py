"""The recurrence of any cell and width: one fused kernel each way where the cell and the table have one, else a matrix
product and a scan.

A forward and its backward may go different ways, since the backward reads x, the weight and h alone.
"""

import torch

from .common import matmul
from .common.call import Recurrence, RecurrenceGradients, RecurrenceNeeds
from .common.config import LaunchConfig
from .common.flags import observed
from .common.gates import Gates
from .common.operands import has_bias
from .common.plan import planned
from .linear.backward import grouped_linear_backward
from .linear.forward import grouped_linear_forward
from .min_gru.backward import min_gru_backward
from .min_gru.config import is_fused
from .min_gru.forward import min_gru_forward
from .scan.gates_backward import gates_scan_backward
from .scan.gates_forward import gates_scan_forward


@planned
def recurrence_forward(
    call: Recurrence, gates: Gates, *, precision: str | None = None, config: LaunchConfig | None = None
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """(h, h_last) of F independent layers of a cell.

    gates      the cell, a row of the table in common/gates.py.
    precision  of float32 products, as `resolve_precision` in common/config.py takes it; cuBLAS has its own setting.
    config     of the fused kernel, instead of the one that its table gives.
    h          [F, B, T, H] in the dtype of x, or None without need_h; h_last [F, B, 1, H] float32, the state before it
               is rounded.
    """
    if _takes_kernel(call, gates, "log" if call.space == "log" else "forward", precision, config):
        return min_gru_forward(call, precision=precision, config=config)
    if call.weight is None:
        return gates_scan_forward(call.input, call, gates)
    x = observed(call.input, call.flags)
    return gates_scan_forward(_project(x, *_parameters(call), gates, precision), call, gates)


@planned
def recurrence_backward(
    call: Recurrence, gates: Gates, h: torch.Tensor, dh: torch.Tensor | None, dh_last: torch.Tensor | None,
    *, needs: RecurrenceNeeds = (True, True, True, True), precision: str | None = None,
    config: LaunchConfig | None = None,
) -> RecurrenceGradients:  # fmt: skip
    """(dx, dW, dh0, d_elapsed) from the call of `recurrence_forward`, its h, and the gradients of h and h_last; either
    may be None.

    The first three have the dtypes of x, the weight and h0; dW has the last row of a weight with a bias. d_elapsed
    [F, B, T] is float32, whatever the times broadcast from. A gradient that `needs` leaves out is not computed and is
    None, as is dh0 without h0 and d_elapsed without times. The projection is computed again.
    """
    if _takes_kernel(call, gates, "backward", precision, config):
        return min_gru_backward(call, h, dh, dh_last, needs=needs, precision=precision, config=config)
    need_x, need_weight, need_h0, need_elapsed = needs
    if call.weight is None:
        dp, dh0, d_elapsed = gates_scan_backward(
            call.input, call, gates, h, dh, dh_last, need_preacts=need_x, need_h0=need_h0, need_elapsed=need_elapsed
        )  # fmt: skip
        return dp, None, dh0, d_elapsed
    x, (weight, bias) = observed(call.input, call.flags), _parameters(call)
    preacts = _project(x, weight, bias, gates, precision)
    dp, dh0, d_elapsed = gates_scan_backward(
        preacts, call, gates, h, dh, dh_last,
        need_preacts=need_x or need_weight, need_h0=need_h0, need_elapsed=need_elapsed,
    )  # fmt: skip
    if dp is None:
        return None, None, dh0, d_elapsed
    rows, dp, needed = x.flatten(1, 2), dp.flatten(1, 2), (need_x, need_weight, need_weight)
    if gates.fused:
        dx, dweight, dbias = matmul.linear_backward(rows, weight, bias, None, dp, needs=needed)
    else:
        dx, dweight, dbias = grouped_linear_backward(rows, weight, bias, None, dp, needs=needed, precision=precision)
    if dweight is not None and dbias is not None:
        dweight = torch.cat([dweight, dbias], 1)
    return None if dx is None else torch.unflatten(dx, 1, x.shape[1:3]), dweight, dh0, d_elapsed


def _takes_kernel(
    call: Recurrence, gates: Gates, pass_: str, precision: str | None, config: LaunchConfig | None
) -> bool:
    """True if the fused kernel computes a pass of this call: "forward", "log" or "backward"."""
    if not gates.fused or call.weight is None:
        return False
    D, H = call.input.shape[3], call.weight.shape[2] // gates.num_preacts
    return config is not None or is_fused(D, H, call.input.dtype, pass_, precision)


def _parameters(call: Recurrence) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The weight [F, D, n H] and the bias [F, 1, n H] of a call, or None where it has none."""
    if not has_bias(call):
        return call.weight, None
    return call.weight[:, :-1], call.weight[:, -1:]


def _project(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, gates: Gates, precision: str | None
) -> torch.Tensor:
    """The pre-activations x W + bias [F, B, T, n H] of x [F, B, T, D], in x's dtype, or in float32 where the cell wants
    them so. A cell that has a fused kernel comes here with widths at which cuBLAS is the faster one."""
    rows = x.flatten(1, 2)
    if gates.fused:
        preacts = matmul.affine(rows, weight, bias)
    elif gates.float32_preacts and x.dtype != torch.float32:
        preacts = matmul.float32_bmm(rows, weight.to(x.dtype))
        preacts = preacts if bias is None else preacts.add_(bias)
    else:
        preacts = grouped_linear_forward(rows, weight, bias, precision=precision)
    return torch.unflatten(preacts, 1, x.shape[1:3])
