"""The minLSTM of any width: its own gates, then the scan of the minGRU.

h_t = (f_t h_{t-1} + i_t g(u_t)) / (f_t + i_t), f = sigmoid(k_f), i = sigmoid(k_i), is the minGRU with the gate

    k = log i - log f,  dk_f = -(1 - f) dk,  dk_i = (1 - i) dk

so one projection gives (u | k_f | k_i), k is made of the latter two in float32, and `gates_scan` reads (u | k). The
projection and the joining are launches of their own: three passes over memory forward where the minGRU has one.
"""

import torch
from torch.nn.functional import logsigmoid

from . import gates_scan, matmul
from .grouped_linear import grouped_linear_backward, grouped_linear_forward


def _project(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(u | k) and (k_f | k_i) in float32, from x [F, B, T, D] and weight [F, D, 3H]."""
    rows = x.flatten(1, 2)
    if x.dtype == torch.float32:
        flat = grouped_linear_forward(rows, weight, None, None)
    else:
        flat = matmul.float32_bmm(rows, weight.to(x.dtype))  # a half overflows from 65504 on, and keeps 3 to 4 digits
    u, gates = flat.unflatten(1, x.shape[1:3]).tensor_split([weight.shape[2] // 3], dim=-1)
    log_f, log_i = logsigmoid(gates).chunk(2, dim=-1)
    return torch.cat([u, log_i - log_f], dim=-1), gates


def min_lstm_forward(
    x: torch.Tensor,
    weight: torch.Tensor,
    h0: torch.Tensor | None = None,
    codes: torch.Tensor | None = None,
    *,
    need_h: bool = True,
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """(h, h_last), as `min_gru_forward`, with weight [F, D, 3H]: the hidden, the forget and the input third."""
    p, _ = _project(matmul.observed(x, codes), weight)
    return gates_scan.gates_scan_forward(p, h0, codes, out_dtype=x.dtype, need_h=need_h)


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
    p, gates = _project(x, weight)
    dp, dh0 = gates_scan.gates_scan_backward(
        p, h0, h, codes, dh, dh_last, need_p=need_x or need_weight, need_h0=need_h0
    )
    if dp is None:
        return None, None, dh0
    du, dk = dp.chunk(2, dim=-1)
    slopes = torch.sigmoid(-gates) * torch.cat([-dk, dk], dim=-1)
    parts = torch.cat([du, slopes], dim=-1).to(x.dtype)
    needed = dict(need_x=need_x, need_weight=need_weight, need_bias=False)
    dx, dw, _ = grouped_linear_backward(x.flatten(1, 2), weight, None, parts.flatten(1, 2), None, **needed)
    return None if dx is None else dx.unflatten(1, x.shape[1:3]), dw, dh0
