"""The minLSTM of any width: its projection p = x W = (u | k_f | k_i), then gates and scan in `gates_scan.py`.

p is float32 whatever the dtype of x: a half overflows from 65504 on, and keeps 3 to 4 digits, while the difference of
k_i and k_f alone counts where both gates vanish.
"""

import torch

from . import gates_scan, matmul
from .grouped_linear import grouped_linear_backward, grouped_linear_forward


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
    p = _project(matmul.observed(x, codes), weight)
    return gates_scan.gates_scan_forward(p, h0, codes, parts=3, out_dtype=x.dtype, need_h=need_h)


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
    x = matmul.observed(x, codes)
    p = _project(x, weight)
    needed = dict(out_dtype=x.dtype, need_p=need_x or need_weight, need_h0=need_h0)
    dp, dh0 = gates_scan.gates_scan_backward(p, h0, h, codes, dh, dh_last, **needed)
    if dp is None:
        return None, None, dh0
    needed = dict(need_x=need_x, need_weight=need_weight, need_bias=False)
    dx, dw, _ = grouped_linear_backward(x.flatten(1, 2), weight, None, dp.flatten(1, 2), None, **needed)
    return None if dx is None else dx.unflatten(1, x.shape[1:3]), dw, dh0
