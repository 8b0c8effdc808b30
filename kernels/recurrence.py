"""The minGRU and the minLSTM of any width: one fused kernel each way where the table has one, else a matrix product and
a scan.

A forward and its backward may go different ways, since the backward reads x, the weight and h alone. The projection
p = x W = (u | k_f | k_i) of a minLSTM is float32 whatever the dtype of x: a half overflows from 65504 on, and keeps 3
to 4 digits, while the difference of k_i and k_f alone counts where both gates vanish.
"""

import torch

from .common import matmul
from .common.flags import observed
from .linear.backward import grouped_linear_backward
from .linear.forward import grouped_linear_forward
from .min_gru import backward, forward
from .min_gru.config import is_fused
from .scan.gates_backward import gates_scan_backward
from .scan.gates_forward import gates_scan_forward


def min_gru_forward(
    x: torch.Tensor,
    weight: torch.Tensor,
    h0: torch.Tensor | None = None,
    codes: torch.Tensor | None = None,
    *,
    space: str = "linear",
    need_h: bool = True,
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """(h, h_last), as `min_gru.forward.min_gru_forward`, for any D and H; h is None where `need_h` says so."""
    if is_fused(weight.shape[1], weight.shape[2] // 2, x.dtype, "log" if space == "log" else "forward"):
        return forward.min_gru_forward(x, weight, h0, codes, space=space, need_h=need_h)
    p = matmul.project(observed(x, codes), weight)
    return gates_scan_forward(p, h0, codes, space=space, need_h=need_h)


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
    """(dx, dW, dh0), as `min_gru.backward.min_gru_backward`, for any D and H; the projection is computed again."""
    if is_fused(weight.shape[1], weight.shape[2] // 2, x.dtype, "backward"):
        return backward.min_gru_backward(x, weight, h0, h, codes, dh, dh_last, needs=needs)
    x = observed(x, codes)
    p = matmul.project(x, weight)
    dp, dh0 = gates_scan_backward(p, h0, h, codes, dh, dh_last, need_p=needs[0] or needs[1], need_h0=needs[2])
    if dp is None:
        return None, None, dh0
    dx, dw = matmul.project_backward(dp, x, weight, need_x=needs[0], need_weight=needs[1])
    return dx, dw, dh0


def _project(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """p [F, B, T, 3H] in float32, from x [F, B, T, D] and weight [F, D, 3H]."""
    rows = x.flatten(1, 2)
    if x.dtype == torch.float32:
        p = grouped_linear_forward(rows, weight, None, None)
    else:
        p = matmul.float32_bmm(rows, weight.to(x.dtype))
    return p.unflatten(1, x.shape[1:3])


def min_lstm_forward(
    x: torch.Tensor,
    weight: torch.Tensor,
    h0: torch.Tensor | None = None,
    codes: torch.Tensor | None = None,
    *,
    need_h: bool = True,
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """(h, h_last), as `min_gru_forward`, with weight [F, D, 3H]: the hidden, the forget and the input third."""
    p = _project(observed(x, codes), weight)
    return gates_scan_forward(p, h0, codes, parts=3, out_dtype=x.dtype, need_h=need_h)


def min_lstm_backward(
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
    """(dx, dW, dh0), as `min_gru_backward`; the projection is computed again."""
    need_x, need_weight, need_h0 = needs
    x = observed(x, codes)
    p = _project(x, weight)
    needed = dict(out_dtype=x.dtype, need_p=need_x or need_weight, need_h0=need_h0)
    dp, dh0 = gates_scan_backward(p, h0, h, codes, dh, dh_last, **needed)
    if dp is None:
        return None, None, dh0
    needed = dict(need_x=need_x, need_weight=need_weight, need_bias=False)
    dx, dw, _ = grouped_linear_backward(x.flatten(1, 2), weight, None, dp.flatten(1, 2), None, **needed)
    return None if dx is None else dx.unflatten(1, x.shape[1:3]), dw, dh0
