"""The grouped linear layer, forward and backward: bias, activation and their gradients while a block is in cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rnam.backends.blocks.plan import in_place, new
from rnam.backends.blocks.products import Product, Sum
from rnam.backends.calls import widen

Maybe = Tensor | None
aten = torch.ops.aten

# Elements of the wider side of a block.
ELEMENTS = 1 << 17


class Activation(NamedTuple):
    """apply(u), in place; gradient(dy, u), that of u before it."""

    apply: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor], Tensor]


ACTIVATIONS = {
    "relu": Activation(Tensor.relu_, lambda g, u: aten.threshold_backward(g, u, 0)),
    "gelu": Activation(aten.gelu_, aten.gelu_backward),
    "silu": Activation(aten.silu_, aten.silu_backward),
}


def grouped_linear_forward(x: Tensor, weight: Tensor, bias: Maybe, activation: str | None, out: Maybe = None) -> Tensor:
    """activation(x @ weight + bias) (terms, rows, out_dim) in the dtype of x, written to `out` where that is given.

    x (terms, rows, in_dim), weight (terms, in_dim, out_dim), bias (terms, 1, out_dim) or None.
    """
    layer = _Layer(x, weight, bias)
    y = new(torch.Size((*x.shape[:2], weight.shape[2])), x) if out is None else out
    for terms, rows in blocks(x, weight, ELEMENTS):
        part = y[terms, rows]
        u = buffer(part, layer.weight)
        layer(read(x[terms, rows], layer.weight), terms, u)
        if activation is not None:
            ACTIVATIONS[activation].apply(u)
        if u is not part:
            part.copy_(u)
    return y


def grouped_linear_backward(
    x: Tensor,
    weight: Tensor,
    bias: Maybe,
    activation: str | None,
    dy: Tensor,
    *,
    needs: tuple[bool, ...],
) -> tuple[Maybe, Maybe, Maybe]:
    """The gradients of x, weight and bias that are needed. Values before an activation are computed again."""
    need_x, need_weight, need_bias = needs
    layer = _Layer(x, weight, bias)
    back, into_weight = Product(layer.weight.mT), Sum(layer.weight)
    dx = new(x.shape, x) if need_x else None
    db = torch.zeros_like(bias, dtype=layer.weight.dtype) if need_bias and bias is not None else None
    for terms, rows in blocks(x, weight, ELEMENTS):
        g = read(dy[terms, rows], layer.weight)
        xs = read(x[terms, rows], layer.weight)
        if activation is not None:
            u = torch.empty_like(g)
            layer(xs, terms, u)
            g = ACTIVATIONS[activation].gradient(g, u)
        if need_weight:
            into_weight(xs, g, terms)
        if db is not None:
            db[terms] += g.sum(1, keepdim=True)
        if dx is not None:
            part = dx[terms, rows]
            into = buffer(part, layer.weight)
            back(g, terms, into)
            if into is not part:
                part.copy_(into)
    dw = into_weight.total.to(weight.dtype) if need_weight else None
    return dx, dw, None if db is None or bias is None else db.to(bias.dtype)


class _Layer:
    """x @ weight + bias with the weight rounded to the dtype of x; bias is not rounded."""

    def __init__(self, x: Tensor, weight: Tensor, bias: Maybe) -> None:
        self.weight = widen(weight.to(x.dtype))
        self.bias = None if bias is None else bias.to(self.weight.dtype)
        self.product = Product(self.weight)

    def __call__(self, x: Tensor, terms: slice, out: Tensor) -> None:
        if self.bias is None:
            self.product(x, terms, out)
        elif x.shape[2] == 1:
            torch.addcmul(self.bias[terms], x, self.weight[terms], out=out)
        else:
            self.product(x, terms, out)
            out.add_(self.bias[terms])


def blocks(x: Tensor, weight: Tensor, elements: int) -> list[tuple[slice, slice]]:
    """Several terms with all their rows, or some rows of one term: either is one piece of memory. The first is the
    largest."""
    terms, rows, _ = x.shape
    most = max(16, elements // max(weight.shape[1:]))
    together = max(1, most // max(1, rows))
    return [
        (slice(i, min(terms, i + together)), slice(j, min(rows, j + most)))
        for i in range(0, terms, together)
        for j in range(0, rows, most)
    ]


def read(part: Tensor, like: Tensor) -> Tensor:
    """`part` contiguous and in the dtype of the sums; a copy only where it is not."""
    return part.to(like.dtype).contiguous()


def buffer(part: Tensor, like: Tensor) -> Tensor:
    """Where to compute a part of the result: there, or in memory of its own."""
    if in_place(part, like):
        return part
    return torch.empty_like(part, dtype=like.dtype, memory_format=torch.contiguous_format)
