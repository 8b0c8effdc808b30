"""The published eager minGRU, written here from arXiv 2410.01201 (appendix B) and 2311.06281.

It is what the layers are timed against, not what they are checked against: in float32 the error of its
cumulative sums grows with the length (8e-6 relative at 100 steps, 0.12 at a million).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def min_gru(x: Tensor, weight: Tensor) -> Tensor:
    """x (terms, batch, seq, dim), weight (terms, dim, 2 * hidden) -> h (terms, batch, seq, hidden)."""
    hidden, gate = torch.bmm(x.flatten(1, 2), weight).unflatten(1, x.shape[1:3]).chunk(2, -1)
    log_g = torch.where(hidden >= 0, (F.relu(hidden) + 0.5).log(), -F.softplus(-hidden))
    log_coeffs, log_values = -F.softplus(gate), -F.softplus(-gate) + log_g
    total = log_coeffs.cumsum(2)
    return (total + (log_values - total).logcumsumexp(2)).exp()
