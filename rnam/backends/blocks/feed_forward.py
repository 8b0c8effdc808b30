"""What follows the minGRU in a residual block, forward and backward, while a block of rows is in cache:

    r = x + h,  n = (r - mean r) / sqrt(var r + eps),  y = x + relu(n V + c) W2 + b2
    V = diag(gamma) W1,  c = beta W1 + b1               so that the norm's scale and shift cost no pass

x and h are read once and y is written once; add, LayerNorm, Linear with ReLU, Linear and add make twelve passes.
The backward computes the values again:

    du = dy W2^T where u = n V + c is positive,  dn = (du V^T) C,  C = 1 - 1 / dim takes the mean off
    dh = (dn - n mean(n dn)) / sqrt(var r + eps),  dx = dh + dy

Where x is embedded, e = x W_e + b_e in its place, e is in no memory: n is made of C h, (C W_e) x and C b_e, and y takes
x W_e with the product of W2. With de = dh + dy the gradients are dW_e = x^T de, db_e = sum de and dx = de W_e^T.

Inside a block a row of numbers is a column: (terms, dim, rows). Sums over a row are then sums of long vectors (torch's
LayerNorm takes 4.9 ns an element at width 8, this 0.9), and products have few rows and many columns (0.4 ns an output
at width 8; 1.3 the other way round). Below 12 columns y is made in columns too, and copied: 1.6 ns an output at width 8
and not 2.5, but 3 and not 0.8 at 16, where the columns of a block lie 32 KiB apart.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rnam.backends.blocks.linear import blocks, buffer, read
from rnam.backends.blocks.plan import Workspace, in_place, new
from rnam.backends.blocks.products import COLUMNS
from rnam.backends.calls import unpack, widen
from rnam.reference import NORM_EPS

Maybe = Tensor | None
aten = torch.ops.aten

# Elements of one array of a block; the forward has three arrays and the backward five.
ELEMENTS = 1 << 17

# Wider rows gain nothing: at 32 the five layers take 14.1 ns an element forward and backward, this 15.
WIDEST = 16


def feed_forward_is_fused(dim: int) -> bool:
    """Whether rows of this width are worth it."""
    return dim <= WIDEST


def feed_forward_keeps_embedding(in_dim: int, dim: int) -> bool:
    """Whether an embedding of in_dim numbers is worth making inside.

    A training step of a model that embeds first takes 1.25 to 1.42 times the CPU time from 1 number to 8, 1.28 from 1
    to 16, and 1.19 from 3 to 8 and 1.15 from 7 to 16, which are the edge. From 5 to 8 it still takes 1.10.
    """
    return feed_forward_is_fused(dim) and 2 * (in_dim + 1) <= dim


def embedded_columns(in_dim: int, itemsize: int) -> int:
    """How many columns [x, 1] have before a minGRU whose weight takes the embedding in."""
    return in_dim + 1


def feed_forward_forward(x: Tensor, params: Tensor, h: Tensor) -> Tensor:
    """y (terms, rows, dim) in the dtype of x, from x and h of that shape and the parameters (`unpack`); where the
    embedding is among them, x is (terms, rows, in_dim)."""
    given = _Parameters(x, params, h)
    y = new(h.shape, x)
    for terms, rows in given.blocks:
        xs, hs = (read(t[terms, rows], given.first) for t in (x, h))
        n, _ = given.normalised(xs, hs, terms)
        a = given.before_relu(n, terms).relu_()
        given.output(xs, a, terms, y[terms, rows])
    return y


def feed_forward_backward(
    x: Tensor, params: Tensor, h: Tensor, dy: Tensor, *, needs: tuple[bool, ...]
) -> tuple[Maybe, Maybe, Maybe]:
    """The gradients of x, params and h that are needed."""
    need_x, need_params, need_h = needs
    given = _Parameters(x, params, h)
    into = given.centre @ given.first  # dn = du into^T
    parts = (given.first, given.shift, given.weight2, given.bias2, *given.embedding)
    totals = [torch.zeros_like(t, memory_format=torch.contiguous_format) for t in parts]
    dx = new(x.shape, x) if need_x else None
    dh = new(h.shape, x) if need_h else None
    for terms, rows in given.blocks:
        xs, hs, g = (read(t[terms, rows], given.first) for t in (x, h, dy))
        n, inverse = given.normalised(xs, hs, terms)
        u = given.before_relu(n, terms)
        du = torch.bmm(given.weight2[terms], g.mT, out=given.columns("du", g))
        aten.threshold_backward.grad_input(du, u, 0, grad_input=du)
        shares: list[Tensor] = []
        if need_params:
            shares += torch.bmm(n, du.mT), du.sum(2)[:, None], torch.bmm(u.relu_(), g), g.sum(1, keepdim=True)
        if need_x or need_h or (need_params and given.embedding):
            dn = torch.bmm(into[terms], du, out=u)
            along = torch.mul(dn, n, out=du).mean(1, keepdim=True)
            dr = dn.addcmul_(n, along, value=-1).mul_(inverse).mT
            if need_params and given.embedding:
                shares += torch.bmm(xs.mT, dr).baddbmm_(xs.mT, g), dr.sum(1, keepdim=True) + shares[-1]
            if dx is not None:
                dr = given.space("r", g, g.shape[2]).copy_(dr)
            if dh is not None:
                dh[terms, rows] = dr
            if dx is not None:
                de = dr.add_(g)
                dx[terms, rows] = torch.bmm(de, given.embedding[0][terms].mT) if given.embedding else de
        if need_params:
            for total, share in zip(totals, shares, strict=True):
                total[terms] += share
    d_params = given.gradients(*totals).to(params.dtype) if need_params else None
    return dx, d_params, dh


class _Parameters:
    """The parameters (`unpack`), the blocks of a call and their buffers.

    The weights are rounded to the dtype of x, the rest is not, and gamma and beta are joined to W1 and b1.
    """

    def __init__(self, x: Tensor, params: Tensor, h: Tensor) -> None:
        dim = h.shape[2]
        (gamma, beta, weight1, bias1, weight2, bias2), embedding = unpack(params, dim)
        self.weight1, self.weight2 = (widen(w.to(x.dtype)) for w in (weight1, weight2))
        gamma, self.beta, bias1, self.bias2 = (b.to(self.weight1.dtype) for b in (gamma, beta, bias1, bias2))
        self.gamma = gamma.mT
        self.first = self.gamma * self.weight1
        self.shift = torch.baddbmm(bias1, self.beta, self.weight1)
        self.centre = torch.eye(dim, dtype=self.first.dtype, device=x.device) - 1 / dim
        self.embedding: list[Tensor] = []
        if embedding:
            weight, bias = widen(embedding[0].to(x.dtype)), embedding[1].to(self.first.dtype)
            self.embedding = [weight, bias]
            self.centred = self.centre @ weight.mT, self.centre @ bias.mT
            self.bias = self.bias2 + bias
        self.blocks = blocks(x, self.first, ELEMENTS)
        terms, rows = self.blocks[0]  # the largest
        self.space = Workspace(terms.stop * rows.stop, self.first)

    def columns(self, name: str, rows: Tensor) -> Tensor:
        """A buffer for rows (terms, rows, dim) as columns (terms, dim, rows)."""
        return self.space(name, rows, rows.shape[2]).view(rows.mT.shape)

    def normalised(self, x: Tensor, h: Tensor, terms: slice) -> tuple[Tensor, Tensor]:
        """n (terms, dim, rows) and 1 / sqrt(var r + eps) (terms, 1, rows)."""
        n, centre = self.columns("n", h), self.centre.expand(h.shape[0], -1, -1)
        if self.embedding:
            weight, bias = (t[terms] for t in self.centred)
            torch.bmm(weight, x.mT, out=n).baddbmm_(centre, h.mT).add_(bias)
        else:
            torch.bmm(centre, torch.add(x, h, out=self.space("r", h, h.shape[2])).mT, out=n)
        inverse = torch.mul(n, n, out=self.columns("u", h)).mean(1, keepdim=True).add_(NORM_EPS).rsqrt_()
        return n.mul_(inverse), inverse

    def before_relu(self, n: Tensor, terms: slice) -> Tensor:
        """u = n V + c (terms, dim, rows)."""
        u = torch.bmm(self.first[terms].mT, n, out=self.columns("u", n.mT))
        return u.add_(self.shift[terms].mT)

    def output(self, x: Tensor, a: Tensor, terms: slice, y: Tensor) -> None:
        """Write x + a W2 + b2, or that of its embedding, to y."""
        weight2, bias2 = self.weight2[terms], self.bias2[terms]
        if self.embedding:
            weight, bias = self.embedding[0][terms], self.bias[terms]
        if a.shape[1] < COLUMNS:
            s = torch.bmm(weight2.mT, a, out=self.columns("r", a.mT))
            if self.embedding:
                y.copy_(s.baddbmm_(weight.mT, x.mT).add_(bias.mT).mT)
            elif in_place(y, s):
                torch.add(x, s.add_(bias2.mT).mT, out=y)
            else:
                y.copy_(x.add(s.add_(bias2.mT).mT))
            return
        out = buffer(y, a)
        if self.embedding:
            torch.bmm(x, weight, out=out).add_(bias)
        else:
            torch.add(x, bias2, out=out)
        out.baddbmm_(a.mT, weight2)
        if out is not y:
            y.copy_(out)

    def gradients(
        self, d_first: Tensor, d_shift: Tensor, d_weight2: Tensor, d_bias2: Tensor, *d_embedding: Tensor
    ) -> Tensor:
        """Of all parameters, as they lie, from those of what was computed with."""
        d_gamma = (d_first * self.weight1).sum(2)
        d_beta = torch.bmm(d_shift, self.weight1.mT)
        d_weight1 = torch.addcmul(self.gamma * d_first, self.beta.mT, d_shift)
        parts = (d_gamma, d_beta, d_weight1, d_shift, d_weight2, d_bias2, *d_embedding)
        return torch.cat([part.flatten(1) for part in parts], dim=1)
