"""Batched products of blocks with a weight of few columns, which a BLAS is slow at.

At 8 columns a batched product takes 1.3 ns per output, at 16 it takes 0.5. So rows are laid side by side: two rows of 8
numbers are one of 16, and the weight stands twice on the diagonal of one of 16 by 16. Where a row is more than twice as
long as its result, that is mostly zeros, and the product is taken transposed, with the rows as its columns (from 64 to
2 columns: 34 ns per output as it stands, 6 transposed).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# fewer columns are slow: from 12 on, rows side by side gain nothing
COLUMNS = 12


class Product:
    """x @ weight[terms] for x (terms, ..., into) and weight (all terms, into, out)."""

    def __init__(self, weight: Tensor) -> None:
        _, self.into, self.out = weight.shape
        self.turned, self.pack = _form(self.into, self.out)
        self.weight = weight
        self.packed = weight if self.pack == 1 else _side_by_side(weight, self.pack)

    def __call__(self, x: Tensor, terms: slice, out: Tensor, add: bool = False) -> None:
        """out = x @ weight[terms], or out += with `add`; both are contiguous."""
        rows = x.shape[1:-1].numel()
        if self.turned:
            product = torch.bmm(self.weight[terms].mT, x.view(x.shape[0], rows, self.into).mT).mT
            flat = out.view(product.shape)
            flat.add_(product) if add else flat.copy_(product)
            return
        # side by side, a NaN or an infinity of one row times the zeros of the next would reach that
        pack = self.pack if self.pack > 1 and rows % self.pack == 0 and math.isfinite(x.sum()) else 1
        weight = (self.packed if pack > 1 else self.weight)[terms]
        x, out = (t.view(x.shape[0], rows // pack, pack * t.shape[-1]) for t in (x, out))
        torch.baddbmm(out, x, weight, beta=int(add), out=out)


class Sum:
    """x^T @ y, summed over blocks: the gradient of a weight (all terms, into, out)."""

    def __init__(self, weight: Tensor) -> None:
        _, self.into, self.out = weight.shape
        self.turned, self.pack = _form(self.into, self.out)
        self.total = torch.zeros_like(weight, memory_format=torch.contiguous_format)

    def __call__(self, x: Tensor, y: Tensor, terms: slice) -> None:
        rows = x.shape[1:-1].numel()
        pack = self.pack if rows % self.pack == 0 else 1
        x, y = (t.view(t.shape[0], rows // pack, pack * t.shape[-1]) for t in (x, y))
        product = torch.bmm(y.mT, x).mT if self.turned else torch.bmm(x.mT, y)
        if pack > 1:
            product = product.view(-1, pack, self.into, pack, self.out).diagonal(dim1=1, dim2=3).sum(-1)
        self.total[terms].add_(product)


def _form(into: int, out: int) -> tuple[bool, int]:
    """Whether a product of these widths is taken transposed, and else how many rows stand side by side."""
    few = out < COLUMNS
    turned = few and into > 2 * out
    return turned, 1 << (-(-COLUMNS // out) - 1).bit_length() if few and not turned else 1


def _side_by_side(weight: Tensor, pack: int) -> Tensor:
    """(terms, into, out) -> (terms, pack * into, pack * out) with `pack` copies on the diagonal."""
    terms, into, out = weight.shape
    packed = weight.new_zeros(terms, pack, into, pack, out)
    packed.diagonal(dim1=1, dim2=3).copy_(weight[..., None])
    return packed.view(terms, pack * into, pack * out)
