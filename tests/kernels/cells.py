"""The cells as the tests of gates and scan run them, with a third one that is known to the tests alone.

It has as many pre-activations as the minLSTM and is another function of them: h = sigmoid(k_f) h + sigmoid(k_i) g(u).
"""

from typing import NamedTuple

import torch
import triton.language as tl  # noqa: F401 - the interpreter asks for it beside what it runs

from rnam.kernels import MIN_GRU, MIN_LSTM, Gates
from rnam.kernels.common.device import device
from rnam.kernels.common.gates import candidate, candidate_slope, sigmoid_pair
from tests.support import oracle

INF = float("inf")


@device
def third_gates(u, k_f, k_i):
    a, not_a = sigmoid_pair(k_f)
    z, not_z = sigmoid_pair(k_i)
    v, s = candidate(u)
    return z, v, a, s, not_a, not_z


@device
def third_slopes(u, k_f, k_i, z, v, a, s, not_a, not_z, h_prev):
    return z * candidate_slope(u, s), a * not_a * h_prev, z * not_z * v


THIRD = Gates((-INF, INF, -INF), third_gates, third_slopes)


def third_oracle(preacts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    u, k_f, k_i = preacts.chunk(3, dim=-1)
    return k_f.sigmoid(), k_i.sigmoid() * torch.where(u >= 0, u + 0.5, u.sigmoid())


class Kind(NamedTuple):
    """A cell in a space: its row on the kernels, and the oracle's."""

    gates: Gates
    oracle: oracle.Gates
    space: str = "linear"

    @property
    def num_preacts(self) -> int:
        return self.gates.num_preacts

    def inner_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype of the pre-activations of an input of `dtype`."""
        return torch.float32 if self.gates.float32_preacts else dtype


KINDS = {
    "linear": Kind(MIN_GRU, oracle.min_gru_gates),
    "log": Kind(MIN_GRU, oracle.min_gru_gates, "log"),
    "lstm": Kind(MIN_LSTM, oracle.min_lstm_gates),
    "third": Kind(THIRD, third_oracle),
}
