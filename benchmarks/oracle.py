"""What is right: the float64 step recurrences and their adjoints, one step at a time, for some of the terms.

A sequence of more than `SEGMENT` steps is walked in segments of that many steps side by side, first from 0 and with the
product of the coefficients, then the segments' ends one by one, then again from the states that enter. That is the same
recurrence in float64, in a thousandth of the Python steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

SEGMENT = 1024

# Numbers of h that an oracle is computed for: 2^23 in float64 take 64 MiB a tensor and some seconds on a core.
ELEMENTS = 1 << 23


def states(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + b_t over dim -2 of [..., T, n], from h0 [..., n]."""
    steps = a.shape[-2]
    if steps <= SEGMENT:
        return _walk(a, b, h0)
    whole = steps // SEGMENT * SEGMENT
    cut_a, cut_b = (t[..., :whole, :].unflatten(-2, (-1, SEGMENT)) for t in (a, b))
    ends = _walk(cut_a, cut_b, torch.zeros_like(cut_b[..., 0, :]))[..., -1, :]
    entered = states(cut_a.prod(-2), ends, h0)
    entry = torch.cat([h0[..., None, :], entered[..., :-1, :]], -2)
    h = _walk(cut_a, cut_b, entry).flatten(-3, -2)
    rest = _walk(a[..., whole:, :], b[..., whole:, :], entered[..., -1, :])
    return torch.cat([h, rest], -2)


def _walk(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    every = torch.empty_like(b)
    for t in range(a.shape[-2]):
        h = torch.addcmul(b[..., t, :], a[..., t, :], h, out=every[..., t, :])
    return every


def adjoint(a: Tensor, dh: Tensor) -> Tensor:
    """lambda_t = dh_t + a_{t+1} lambda_{t+1}: what reaches the state after each step."""
    later = torch.cat([a[..., 1:, :], torch.zeros_like(a[..., :1, :])], -2)
    return states(later.flip(-2), dh.flip(-2), torch.zeros_like(dh[..., 0, :])).flip(-2)


@torch.no_grad()
def linear_scan(a: Tensor, b: Tensor, dh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """h, da and db, all float64 [..., T, n]."""
    a, b, dh = a.double(), b.double(), dh.double()
    h = states(a, b, torch.zeros_like(b[..., 0, :]))
    total = adjoint(a, dh)
    return h, total * _before(h, torch.zeros_like(b[..., 0, :])), total


@torch.no_grad()
def log_scan(log_a: Tensor, log_b: Tensor, dlog_h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log h, dlog a and dlog b by the recurrence of h itself, whose numbers float64 holds for these inputs."""
    a, b = log_a.double().exp(), log_b.double().exp()
    h, da, db = linear_scan(a, b, dlog_h.double() / linear_scan(a, b, torch.zeros_like(a))[0])
    return h.log(), a * da, b * db


@torch.no_grad()
def min_gru(
    x: Tensor, weight: Tensor, dh: Tensor, h0: Tensor | None = None, mask: Tensor | None = None
) -> tuple[Tensor, ...]:
    """h, dx, dW and, with h0, dh0, in float64, in groups of batch rows."""
    weight = weight.double()
    dw = torch.zeros_like(weight)
    rows = max(1, ELEMENTS // (x.shape[0] * x.shape[2] * max(x.shape[3], weight.shape[2])))
    parts: list[tuple[Tensor, ...]] = []
    for first in range(0, x.shape[1], rows):
        group = slice(first, first + rows)
        codes = None if mask is None else mask.expand(x.shape[:3])[:, group, :, None]
        start = None if h0 is None else h0[:, group].double()
        *part, dw_part = _min_gru(x[:, group].double(), weight, dh[:, group].double(), start, codes)
        dw += dw_part
        parts.append(tuple(part))
    h, dx, dh0 = (torch.cat(tensors, 1) for tensors in zip(*parts, strict=True))
    return (h, dx, dw) if h0 is None else (h, dx, dw, dh0)


def _min_gru(
    x: Tensor, weight: Tensor, dh: Tensor, h0: Tensor | None, observed: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    u, k = torch.einsum("fbtd,fdh->fbth", x, weight).chunk(2, -1)
    start = torch.zeros_like(u[:, :, 0]) if h0 is None else h0[:, :, 0]
    z, keep = torch.sigmoid(k), torch.sigmoid(-k)
    low = torch.sigmoid(u)
    v = torch.where(u >= 0, u + 0.5, low)
    a = keep if observed is None else torch.where(observed, keep, 1.0)
    z = z if observed is None else torch.where(observed, z, 0.0)
    h = states(a, z * v, start)
    total = adjoint(a, dh)
    du = total * z * torch.where(u >= 0, 1.0, low * (1 - low))
    dk = total * z * keep * (v - _before(h, start))
    dp = torch.cat([du, dk], -1)
    dx = torch.einsum("fbth,fdh->fbtd", dp, weight)
    return h, dx, (a * total)[:, :, :1], torch.einsum("fbtd,fbth->fdh", x, dp)


def _before(h: Tensor, start: Tensor) -> Tensor:
    return torch.cat([start[..., None, :], h[..., :-1, :]], -2)


def linear(x: Tensor, layers: list[tuple[Tensor, Tensor]], dy: Tensor) -> tuple[Tensor, ...]:
    """y of a chain of layers (weight, bias) with relu between them, then dx and each dW and db; float64."""
    leaves = [t.detach().double().requires_grad_() for t in (x, *(t for layer in layers for t in layer))]
    y = leaves[0]
    for i in range(len(layers)):
        y = y @ leaves[2 * i + 1] + leaves[2 * i + 2]
        y = torch.relu(y) if i + 1 < len(layers) else y
    return y.detach(), *torch.autograd.grad(y, leaves, dy.double())


class MinGRU(torch.autograd.Function):
    """The recurrence and its adjoint as a function of (x, W), for models in float64."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return min_gru(x, weight, torch.zeros_like(x[..., :1]).expand(*x.shape[:3], weight.shape[2] // 2))[0]

    @staticmethod
    def backward(ctx, dh: Tensor) -> tuple[Tensor, Tensor]:
        _, dx, dw = min_gru(*ctx.saved_tensors, dh)
        return dx, dw
