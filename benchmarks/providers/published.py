"""The published eager forms, written here from arXiv 2410.01201 (appendix B) and 2311.06281.

Halves are widened after the projection, as torch.autocast does. They are what everything is timed against, not what it
is checked against: in float32 the error of their cumulative sums grows with the length (8e-6 relative at 100 steps,
0.12 at a million).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def project(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(u, k), the two halves of x W of each term."""
    hidden, gate = torch.bmm(x.flatten(1, 2), weight).unflatten(1, x.shape[1:3]).chunk(2, -1)
    return hidden, gate


def g(u: Tensor) -> Tensor:
    return torch.where(u >= 0, u + 0.5, u.sigmoid())


def log_g(u: Tensor) -> Tensor:
    return torch.where(u >= 0, (F.relu(u) + 0.5).log(), -F.softplus(-u))


def log_scan(log_coeffs: Tensor, log_values: Tensor) -> Tensor:
    """log h_t over dim -2, from an empty state."""
    total = log_coeffs.cumsum(-2)
    return total + (log_values - total).logcumsumexp(-2)


def linear_scan(coeffs: Tensor, values: Tensor) -> Tensor:
    """h_t = coeffs_t h_{t-1} + values_t over dim -2, for positive numbers."""
    return log_scan(coeffs.log(), values.log()).exp()


def min_gru(x: Tensor, weight: Tensor, h0: Tensor | None = None) -> Tensor:
    """x (terms, batch, seq, dim), weight (terms, dim, 2 * hidden), h0 > 0 -> h (terms, batch, seq, hidden)."""
    hidden, gate = (t.float() if t.itemsize == 2 else t for t in project(x, weight))
    log_coeffs, log_values = -F.softplus(gate), -F.softplus(-gate) + log_g(hidden)
    if h0 is None:
        return log_scan(log_coeffs, log_values).exp().to(x.dtype)
    log_values = torch.cat([h0.log(), log_values], dim=2)
    return log_scan(F.pad(log_coeffs, (0, 0, 1, 0)), log_values).exp()[:, :, 1:].to(x.dtype)


def step(x: Tensor, weight: Tensor, h0: Tensor) -> Tensor:
    """The original's form for one step from a state: h0 moved towards g(u) by sigmoid(k)."""
    hidden, gate = project(x, weight)
    return h0.lerp(g(hidden), gate.sigmoid())
