"""log h_t = logaddexp(log a_t + log h_{t-1}, log b_t) over dim -2 of [..., T, H]: the kernels of linear_scan.py with
LOG."""

import torch

from .linear_scan import scan_backward, scan_forward


def log_scan_forward(
    log_coeffs: torch.Tensor, log_values: torch.Tensor, log_h0: torch.Tensor | None = None
) -> torch.Tensor:
    """log_h from log_h0 [..., 1, H] or -inf, in the dtype of log_values. -inf is legal in every argument, +inf in
    none."""
    return scan_forward(log_coeffs, log_values, log_h0, log=True)


def log_scan_backward(
    log_coeffs: torch.Tensor, log_values: torch.Tensor, log_h: torch.Tensor, log_h0: torch.Tensor | None,
    dlog_h: torch.Tensor,
    *, need_coeffs: bool = True, need_values: bool = True, need_h0: bool = True,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
    """(d log_coeffs, d log_values, d log_h0) from the forward's output log_h; all 0 where log_h = -inf."""
    needs = (need_coeffs, need_values, need_h0)
    return scan_backward(log_coeffs, log_values, log_h0, log_h, dlog_h, log=True, needs=needs)
