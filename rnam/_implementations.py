"""The three implementations of the functions in `rnam.functional`, and which of them a call takes."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from rnam import _dispatch, _ops, reference


class Implementation(Protocol):
    """What `reference` and those of `_ops` have in common; their arguments are checked here."""

    def grouped_linear(
        self, input: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None, out: Tensor | None
    ) -> Tensor: ...

    def feed_forward(
        self,
        input: Tensor,
        update: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        embedding: reference.Embedding,
    ) -> Tensor: ...

    def keeps_embedding(self, in_dim: int, dim: int) -> bool: ...

    def min_gru(
        self,
        input: Tensor,
        weight: Tensor,
        h0: Tensor | None,
        mask: Tensor | None,
        reset: Tensor | None,
        space: str,
        need_h: bool,
        embedding: reference.Embedding,
    ) -> tuple[Tensor, Tensor]: ...

    def min_lstm(
        self,
        input: Tensor,
        weight: Tensor,
        h0: Tensor | None,
        mask: Tensor | None,
        reset: Tensor | None,
        need_h: bool,
        embedding: reference.Embedding,
    ) -> tuple[Tensor, Tensor]: ...

    def min_gru_block(
        self,
        input: Tensor,
        weight: Tensor,
        h0: Tensor | None,
        mask: Tensor | None,
        reset: Tensor | None,
        *parameters: Tensor,
        embedding: reference.Embedding = None,
    ) -> tuple[Tensor, Tensor]: ...

    def min_gru_projected(
        self,
        input: Tensor,
        weight: Tensor,
        out_weight: Tensor,
        h0: Tensor | None,
        mask: Tensor | None,
        reset: Tensor | None,
    ) -> tuple[Tensor, Tensor]: ...

    def linear_scan(self, coeffs: Tensor, values: Tensor, h0: Tensor | None) -> Tensor: ...

    def log_scan(self, log_coeffs: Tensor, log_values: Tensor, log_h0: Tensor | None) -> Tensor: ...


_IMPLEMENTATIONS: dict[str, Implementation] = {
    "triton": _ops.KERNELS,
    "torch": _ops.BLOCKS,
    "reference": reference,
}


def implementation(x: Tensor) -> Implementation:
    """Whose functions do the work; an empty tensor needs none, which the reference does."""
    path = _dispatch.path(x.device, x.dtype)
    return _IMPLEMENTATIONS[path if x.numel() else "reference"]
