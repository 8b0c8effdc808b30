"""The minGRU of any width: one fused kernel each way where the table has one, else a matrix product and a scan.

A forward and its backward may go different ways, since the backward reads x, the weight and h alone.
"""

import torch

from . import gates_scan, matmul, min_gru_bwd, min_gru_fwd
from .config import is_fused


def min_gru_forward(
    x: torch.Tensor,
    weight: torch.Tensor,
    h0: torch.Tensor | None = None,
    codes: torch.Tensor | None = None,
    *,
    space: str = "linear",
    need_h: bool = True,
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """(h, h_last), as `min_gru_fwd.min_gru_forward`, for any D and H; h is None where `need_h` says so."""
    if is_fused(weight.shape[1], weight.shape[2] // 2, x.dtype, "log" if space == "log" else "forward"):
        return min_gru_fwd.min_gru_forward(x, weight, h0, codes, space=space, need_h=need_h)
    p = matmul.project(matmul.observed(x, codes), weight)
    return gates_scan.gates_scan_forward(p, h0, codes, space=space, need_h=need_h)


def min_gru_backward(
    x: torch.Tensor,
    weight: torch.Tensor,
    h0: torch.Tensor | None,
    h: torch.Tensor,
    codes: torch.Tensor | None,
    dh: torch.Tensor | None,
    dh_last: torch.Tensor | None,
    *,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """(dx, dW, dh0), as `min_gru_bwd.min_gru_backward`, for any D and H; the projection is computed again."""
    if is_fused(weight.shape[1], weight.shape[2] // 2, x.dtype, "backward"):
        return min_gru_bwd.min_gru_backward(x, weight, h0, h, codes, dh, dh_last, needs=needs)
    x = matmul.observed(x, codes)
    p = matmul.project(x, weight)
    dp, dh0 = gates_scan.gates_scan_backward(
        p, h0, h, codes, dh, dh_last, need_p=needs[0] or needs[1], need_h0=needs[2]
    )
    if dp is None:
        return None, None, dh0
    dx, dw = matmul.project_backward(dp, x, weight, need_x=needs[0], need_weight=needs[1])
    return dx, dw, dh0
