"""Inputs, float64 reference and error bounds of the feed-forward kernels, interpreted and as compiled alike."""

import torch
from torch import Tensor

from rnam.kernels.feed_forward.backward import feed_forward_backward
from rnam.kernels.feed_forward.config import num_parameters
from rnam.kernels.feed_forward.forward import feed_forward_forward
from tests.support.assertions import assert_within
from tests.support.bounds import PRODUCT_ERROR
from tests.support.scan_bounds import ROUNDOFF, SMALLEST

EPS = 1e-5
U = ROUNDOFF[torch.float32]

# torch.nn.LayerNorm(rsqrt): the approximation of the GPU is good to 2 units.
RSQRT = 4


def split(params: Tensor, D: int, K: int = 0) -> list[Tensor]:
    """gamma, beta, W1, b1, W2, b2 of (terms, P), each with three dimensions, and with K > 0 W_e, b_e."""
    rows = (1, 1, D, 1, D, 1, *((K, 1) if K else ()))
    return [part.unflatten(1, (-1, D)) for part in params.split([n * D for n in rows], 1)]


def embedded(x: Tensor, h: Tensor) -> int:
    """The numbers of a row of x where they are embedded, else 0."""
    return 0 if x.shape == h.shape else x.shape[2]


def feed_forward(x: Tensor, params: Tensor, h: Tensor) -> Tensor:
    """x + W2 relu(W1 LN(x + h) + b1) + b2 as PyTorch computes it in the dtype of x; x is embedded if it is narrower."""
    gamma, beta, w1, b1, w2, b2, *embedding = split(params.to(x.dtype), h.shape[2], embedded(x, h))
    if embedding:
        x = x @ embedding[0] + embedding[1]
    normal = torch.nn.functional.layer_norm(x + h, h.shape[2:], eps=EPS) * gamma + beta
    return x + torch.relu(normal @ w1 + b1) @ w2 + b2


def exact(x: Tensor, params: Tensor, h: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
    """(y, dx, dparams, dh) in float64."""
    leaves = [t.detach().double().requires_grad_() for t in (x, params, h)]
    y = feed_forward(*leaves)
    return (y.detach(), *torch.autograd.grad(y, leaves, dy.double()))


class Bounds:
    """First-order bounds on the errors of y and of every gradient, number by number.

    Each float32 operation errs by U of its result; a sum of n terms by n U of the sum of their sizes. A product also
    rounds its factors to the dtype of x, or by its precision. Errors of operands go through the formulas as they are;
    h may come with one, d_h.
    """

    def __init__(
        self, x: Tensor, params: Tensor, h: Tensor, dy: Tensor, precision: str, d_h: Tensor | None = None
    ) -> None:
        dtype, (_, self.N, self.D) = x.dtype, h.shape
        self.rounding = PRODUCT_ERROR[precision] if dtype == torch.float32 else 2 * ROUNDOFF[dtype]
        self.smallest, self.store = SMALLEST[dtype], 0.0 if dtype == torch.float32 else ROUNDOFF[dtype]
        self.input, self.x, self.dy = x.double(), x.double(), dy.double()
        pieces = split(params.double(), self.D, embedded(x, h))
        self.gamma, self.beta, self.w1, self.b1, self.w2, self.b2, *self.embedding = pieces
        self.d_x = torch.zeros_like(self.dy)
        if self.embedding:  # K fused steps in float32
            w_e, b_e = self.embedding
            self.x = self.input @ w_e + b_e
            self.d_x = (x.shape[2] + 1) * U * (self.input.abs() @ w_e.abs() + b_e.abs())
        r, steps = self.x + h.double(), self.D + 4
        mean = r.mean(2, keepdim=True)
        self.rstd = ((r - mean).square().mean(2, keepdim=True) + EPS).rsqrt()
        self.n = (r - mean) * self.rstd
        # r and its mean err by units of the largest r of the row, its variance by that and by a sum of D
        d_centred = (steps + 2) * U * r.abs().amax(2, keepdim=True) + 2 * self.d_x.amax(2, keepdim=True)
        if d_h is not None:  # once in r, once in its mean
            d_centred = d_centred + 2 * d_h.amax(2, keepdim=True)
        self.d_rstd = self.rstd * ((steps + RSQRT) * U + d_centred * self.rstd)
        self.d_n = d_centred * self.rstd + self.n.abs() * (self.d_rstd / self.rstd + U)
        self.w = self.gamma.mT * self.w1
        b = self.b1 + self.beta @ self.w1
        self.a = self.n @ self.w + b
        d_b = steps * U * (self.b1.abs() + self.beta.abs() @ self.w1.abs())
        self.d_a = self.product(self.n, self.d_n, self.w, U * self.w.abs()) + d_b + U * (self.a.abs() + b.abs())

    def product(self, a: Tensor, d_a: Tensor | float, b: Tensor, d_b: Tensor | float) -> Tensor:
        """The error of a b where a and b err by d_a and d_b."""
        size_a, size_b = a.abs() + d_a, b.abs() + d_b
        own = (self.rounding + (a.shape[-1] + 2) * U) * (size_a @ size_b)
        tiny = self.smallest * (size_a.sum(-1, keepdim=True) + size_b.sum(-2, keepdim=True))
        return torch.zeros_like(a).add(d_a) @ size_b + size_a @ torch.zeros_like(b).add(d_b) + own + tiny

    def stored(self, value: Tensor, error: Tensor) -> Tensor:
        return error + (self.store + 4 * U) * (value.abs() + error) + self.smallest

    def y(self) -> Tensor:
        s = self.a.relu()
        update = s @ self.w2 + self.b2
        error = self.product(s, self.d_a, self.w2, 0.0) + 2 * U * (update.abs() + self.b2.abs())
        return self.stored(self.x + update, error + self.d_x)

    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of (dx, dparams, dh); the signs of the pre-activations are taken as right."""
        s, active = self.a.relu(), self.a > 0
        da = self.dy @ self.w2.mT * active
        d_da = self.product(self.dy, 0.0, self.w2.mT, 0.0) * active
        dn, d_dn = da @ self.w.mT, self.product(da, d_da, self.w.mT, U * self.w.abs().mT)
        mean = lambda t: t.mean(2, keepdim=True)
        n, steps = self.n.abs(), self.D + 6
        across, size = mean(dn * self.n), dn.abs() + mean(dn.abs()) + n * mean((dn * n).abs())
        inside = d_dn + mean(d_dn) + n * mean(n * d_dn + dn.abs() * self.d_n) + self.d_n * across.abs()
        dr = self.rstd * (dn - mean(dn) - self.n * across)
        d_dr = self.rstd * (inside + steps * U * size) + self.d_rstd / self.rstd * dr.abs()

        ones = torch.ones_like(s[:, :1, :1]).expand(-1, 1, self.N)
        sums = lambda t, d_t: ones @ d_t + (self.N + 2) * U * (ones @ t.abs())
        db1, d_db1 = ones @ da, sums(da, d_da)
        m, d_m = self.n.mT @ da, self.product(self.n.mT, self.d_n.mT, da, d_da)
        d_w1 = self.gamma.abs().mT * d_m + self.beta.abs().mT * d_db1
        d_w1 = d_w1 + 3 * U * (self.gamma.abs().mT * m.abs() + self.beta.abs().mT * db1.abs())
        w1 = self.w1.abs()
        d_gamma = (w1 * (d_m + steps * U * m.abs())).sum(2)
        d_beta = (w1 * (d_db1 + steps * U * db1.abs())).sum(2)
        d_w2 = self.product(s.mT, self.d_a.mT, self.dy, 0.0)
        pieces = [d_gamma, d_beta, d_w1, d_db1, d_w2, sums(self.dy, torch.zeros_like(self.dy))]
        dx, d_dx = dr + self.dy, d_dr
        if self.embedding:  # sums of float32 products
            w_e, x = self.embedding[0].abs().mT, self.input.abs().mT
            d_dx = d_dx + U * dx.abs()
            pieces += [x @ d_dx + (self.N + 3) * U * (x @ dx.abs()), sums(dx, d_dx)]
            dx, d_dx = dx @ self.embedding[0].mT, d_dx @ w_e + (self.D + 2) * U * (dx.abs() @ w_e)
        return self.stored(dx, d_dx), torch.cat([t.flatten(1) for t in pieces], 1), self.stored(dr, d_dr)


def inputs(
    F: int, N: int, D: int, dtype: torch.dtype, precision: str = "ieee", params_dtype: torch.dtype | None = None,
    K: int = 0,
) -> tuple[Tensor, ...]:  # fmt: skip
    """x, params, h, dy with every pre-activation farther from 0 than it may err: relu has slopes 0 and 1 there. With
    K > 0 x has K numbers a row, to be embedded."""
    generator = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(shape, generator=generator)
    gamma, beta, *rest = (part.flatten(1) for part in split(normal(F, num_parameters(D, K)) / D**0.5, D, K))
    params = torch.cat([1 + 0.1 * gamma, beta, *rest], 1).to(dtype)
    x, h, dy = (normal(F, N, width).to(dtype) for width in (K or D, D, D))
    for _ in range(400):
        bounds = Bounds(x, params, h, dy, precision)
        near = (bounds.a.abs() <= 2 * bounds.d_a).any(2, keepdim=True)
        if not near.any():
            return x, params.to(params_dtype or dtype), h, dy
        x, h = (torch.where(near, normal(*t.shape).to(dtype), t) for t in (x, h))
    raise AssertionError("the pre-activations stay near 0")


def check(x: Tensor, params: Tensor, h: Tensor, dy: Tensor, precision: str = "ieee") -> tuple[Tensor, ...]:
    """Forward and backward against float64; gives (y, dx, dparams, dh)."""
    wanted, bounds = exact(x, params, h, dy), Bounds(x, params, h, dy, precision)
    y = feed_forward_forward(x, params, h, precision=precision)
    gradients = feed_forward_backward(x, params, h, dy, precision=precision)
    assert y.is_contiguous() and y.dtype == x.dtype
    assert_within("y", y, wanted[0], bounds.y())
    dx, dparams, dh = bounds.gradients()
    rounding = 0.0 if params.dtype == torch.float32 else ROUNDOFF[params.dtype]
    dparams = dparams * (1 + rounding) + rounding * wanted[2].abs() + SMALLEST[params.dtype]
    for name, got, want, bound, like in zip(
        ("dx", "dparams", "dh"), gradients, wanted[1:], (dx, dparams, dh), (x, params, h), strict=True
    ):
        assert got.dtype == like.dtype, name
        assert_within(name, got, want, bound)
    return (y, *gradients)
