"""What cuBLAS does better than a kernel here: layers wider than a warp's registers, as batched matmuls."""

import torch


def float32_bmm(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a b of halves, in float32 without rounding the result."""
    if a.is_cuda:
        return torch.bmm(a, b, out_dtype=torch.float32)
    return torch.bmm(a.float(), b.float())  # bmm has no out_dtype on a CPU


def affine(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x W + bias in x's dtype; x [F, N, D], weight [F, D, H], bias [F, 1, H]."""
    weight = weight.to(x.dtype)
    return torch.bmm(x, weight) if bias is None else torch.baddbmm(bias.to(x.dtype), x, weight)


def activate(y: torch.Tensor, activation: str | None) -> torch.Tensor:
    """act(y)."""
    if activation is None:
        return y
    return {"relu": torch.relu, "gelu": torch.nn.functional.gelu, "silu": torch.nn.functional.silu}[activation](y)


def activation_backward(dy: torch.Tensor, y: torch.Tensor, activation: str) -> torch.Tensor:
    """dy act'(y)."""
    aten = torch.ops.aten
    if activation == "relu":
        return aten.threshold_backward(dy, y, 0)
    return aten.gelu_backward(dy, y) if activation == "gelu" else aten.silu_backward(dy, y)


def linear_backward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, dy: torch.Tensor, activation: str | None,
    *, need_x: bool, need_weight: bool, need_bias: bool,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
    """(dx, dW, db) of act(x W + bias) in the dtypes of x, weight and bias; dW leaves in float32 for a float32
    weight."""
    if activation is not None:
        dy = activation_backward(dy, affine(x, weight, bias), activation)
    dx = torch.bmm(dy, weight.to(dy.dtype).mT) if need_x else None
    dw = None
    if need_weight:
        dw = torch.bmm(x.mT, dy) if weight.dtype == dy.dtype else float32_bmm(x.mT, dy).to(weight.dtype)
    db = dy.sum(1, keepdim=True, dtype=torch.float32).to(bias.dtype) if need_bias and bias is not None else None
    return dx, dw, db


def project(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """p = x W [F, B, T, 2H] in x's dtype; x [F, B, T, D] comes from `observed`, weight [F, D, 2H] is rounded to x's
    dtype."""
    return affine(x.flatten(1, 2), weight, None).unflatten(1, x.shape[1:3])


def project_backward(
    dp: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, *, need_x: bool = True, need_weight: bool = True
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """dx = dp W^T and dW = x^T dp, in the dtypes of x and weight."""
    dx, dw, _ = linear_backward(
        x.flatten(1, 2), weight, None, dp.flatten(1, 2), None, need_x=need_x, need_weight=need_weight, need_bias=False
    )
    return None if dx is None else dx.unflatten(1, x.shape[1:3]), dw
