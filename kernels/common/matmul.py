"""Layers wider than a warp's registers, as batched matmuls: there cuBLAS is faster than a kernel."""

import torch

from .activations import ACTIVATIONS
from .call import Gradients, Needs


def float32_bmm(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a b in half precision, with the result in float32 and not rounded."""
    if a.is_cuda:
        return torch.bmm(a, b, out_dtype=torch.float32)
    return torch.bmm(a.float(), b.float())  # bmm has no out_dtype on a CPU


def affine(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x W + bias in x's dtype; x [F, N, D], weight [F, D, H], bias [F, 1, H]."""
    weight = weight.to(x.dtype)
    return torch.bmm(x, weight) if bias is None else torch.baddbmm(bias.to(x.dtype), x, weight)


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str | None) -> torch.Tensor:
    """act(x W + bias), as `affine`."""
    y = affine(x, weight, bias)
    return y if activation is None else ACTIVATIONS[activation].forward(y)


def linear_backward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str | None, dy: torch.Tensor,
    *, needs: Needs,
) -> Gradients:  # fmt: skip
    """(dx, dW, db) of act(x W + bias) in the dtypes of x, weight and bias; dW leaves in float32 for a float32
    weight."""
    if activation is not None:
        dy = ACTIVATIONS[activation].backward(dy, affine(x, weight, bias))
    need_x, need_weight, need_bias = needs
    dx = torch.bmm(dy, weight.to(dy.dtype).mT) if need_x else None
    dw = None
    if need_weight:
        dw = torch.bmm(x.mT, dy) if weight.dtype == dy.dtype else float32_bmm(x.mT, dy).to(weight.dtype)
    db = dy.sum(1, keepdim=True, dtype=torch.float32).to(bias.dtype) if need_bias and bias is not None else None
    return dx, dw, db
