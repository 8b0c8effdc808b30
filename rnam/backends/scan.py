"""The bare scans: `rnam::scan` on the kernels. In blocks they are the reference's."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rnam import reference
from rnam.backends import choice
from rnam.backends.cells import KERNELS
from rnam.backends.operator import Maybe, Operator, Tensors

__all__ = ["Scan", "Steps", "scan"]


class Steps(NamedTuple):
    """coeffs, values (..., seq, dim), h0 (..., 1, dim) or None; with the space "log" logarithms of all three."""

    coeffs: Tensor
    values: Tensor
    h0: Tensor | None
    space: str


class Scan(Operator[Steps]):
    """h_t = coeffs_t h_{t-1} + values_t, or the same in logarithms."""

    record = Steps
    outputs = 1
    joins_terms = False

    def launch(self, call: Steps) -> Tensors:
        coeffs, values, h0, space = call
        return (KERNELS.module.scan_forward(coeffs, values, h0, log=space == "log"),)

    def launch_backward(
        self, call: Steps, saved: Maybe, grads: tuple[Maybe, Maybe], needs: tuple[bool, ...]
    ) -> tuple[Maybe, ...]:
        coeffs, values, h0, space = call
        log = space == "log"
        # the linear form's gradients need the values nowhere
        found: tuple[Maybe, ...] = KERNELS.module.scan_backward(
            coeffs, values if log else None, h0, saved, grads[0], log=log, needs=needs
        )
        return found

    def fake(self, call: Steps) -> Tensors:
        return (torch.empty_like(call.values, memory_format=torch.contiguous_format),)

    def formula(self, call: Steps) -> Tensors:
        return (_reference(call),)


_OPERATOR = Scan("scan")


def scan(call: Steps) -> Tensor:
    """`rnam.functional.linear_scan` or `log_scan` by the backend that is chosen."""
    return _OPERATOR(call)[0] if choice.path_of(call.values) == "triton" else _reference(call)


def _reference(call: Steps) -> Tensor:
    coeffs, values, h0, space = call
    return (reference.log_scan if space == "log" else reference.linear_scan)(coeffs, values, h0)
