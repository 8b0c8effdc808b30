"""The float64 step recurrences that every test compares with.

Written apart from the package, one step at a time, in the most literal form; differentiable where a test
needs gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def min_gru(
    x: Tensor,
    weight: Tensor,
    h0: Tensor | None = None,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    space: str = "linear",
) -> tuple[Tensor, Tensor]:
    """x (terms, batch, seq, dim), weight (terms, dim, 2 * hidden) -> h, h_last, step by step in `dtype`.

    In float64 this is what is right. In another dtype, and with the state kept as log h ("log"), it is what
    a plain program of that precision gets, which the bounds are made of.
    """
    terms, batch, seq, _ = x.shape
    hidden = weight.shape[2] // 2
    observed = _full(mask, (terms, batch, seq), True)
    forgets = _full(reset, (terms, batch, seq), False)
    x = torch.where(observed[..., None], x.to(dtype), 0.0)
    uk = torch.einsum("fbtd,fdh->fbth", x, weight.to(dtype))
    u, k = uk[..., :hidden], uk[..., hidden:]
    if space == "linear":
        a, b = torch.sigmoid(-k), torch.sigmoid(k) * torch.where(u >= 0, u + 0.5, torch.sigmoid(u))
        empty = 0.0
    else:
        g = torch.where(u >= 0, torch.log(u.clamp(min=0) + 0.5), nn.functional.logsigmoid(u))
        a, b = nn.functional.logsigmoid(-k), nn.functional.logsigmoid(k) + g
        empty = -torch.inf
    h = x.new_zeros(terms, batch, hidden) if h0 is None else h0.to(dtype)[:, :, 0]
    h = h if space == "linear" else h.log()
    states = [h]
    for t in range(seq):
        h = torch.where(forgets[:, :, t, None], empty, h)
        moved = a[:, :, t] * h + b[:, :, t] if space == "linear" else torch.logaddexp(a[:, :, t] + h, b[:, :, t])
        h = torch.where(observed[:, :, t, None], moved, h)
        states.append(h)
    every = torch.stack(states, dim=2)
    every = every if space == "linear" else every.exp()
    return every[:, :, 1:], every[:, :, -1:]


def min_lstm(
    x: Tensor,
    weight: Tensor,
    h0: Tensor | None = None,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """x (terms, batch, seq, dim), weight (terms, dim, 3 * hidden) -> h, h_last: h = (f h + i g(u)) / (f + i)."""
    terms, batch, seq, _ = x.shape
    observed = _full(mask, (terms, batch, seq), True)
    forgets = _full(reset, (terms, batch, seq), False)
    x = torch.where(observed[..., None], x.to(dtype), 0.0)
    u, kf, ki = torch.einsum("fbtd,fdh->fbth", x, weight.to(dtype)).chunk(3, dim=-1)
    f, i = torch.sigmoid(kf), torch.sigmoid(ki)
    v = torch.where(u >= 0, u + 0.5, torch.sigmoid(u))
    h = u.new_zeros(terms, batch, u.shape[-1]) if h0 is None else h0.to(dtype)[:, :, 0]
    states = [h]
    for t in range(seq):
        h = torch.where(forgets[:, :, t, None], 0.0, h)
        moved = (f[:, :, t] * h + i[:, :, t] * v[:, :, t]) / (f[:, :, t] + i[:, :, t])
        h = torch.where(observed[:, :, t, None], moved, h)
        states.append(h)
    every = torch.stack(states, dim=2)
    return every[:, :, 1:], every[:, :, -1:]


def linear_scan(coeffs: Tensor, values: Tensor, h0: Tensor | None = None) -> Tensor:
    h = torch.zeros_like(values[..., 0, :]).double() if h0 is None else h0.double()[..., 0, :]
    states = []
    for t in range(values.shape[-2]):
        h = coeffs[..., t, :].double() * h + values[..., t, :].double()
        states.append(h)
    return torch.stack(states, dim=-2)


def log_scan(log_coeffs: Tensor, log_values: Tensor, log_h0: Tensor | None = None) -> Tensor:
    """Forward only: its gradients are NaN where a state is empty."""
    start = torch.full_like(log_values[..., 0, :], -torch.inf).double()
    h = start if log_h0 is None else log_h0.double()[..., 0, :]
    states = []
    for t in range(log_values.shape[-2]):
        h = torch.logaddexp(log_coeffs[..., t, :].double() + h, log_values[..., t, :].double())
        states.append(h)
    return torch.stack(states, dim=-2)


def log_scan_gradients(
    log_coeffs: Tensor, log_values: Tensor, log_h0: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The formula of `rnam.functional.log_scan`: G_t = g_t + p_{t+1} G_{t+1}, and p = q = 0 at -inf."""
    log_h = log_scan(log_coeffs, log_values, log_h0)
    before = torch.cat([log_h0.double(), log_h[..., :-1, :]], dim=-2)
    empty = log_h == -torch.inf
    p = torch.where(empty, 0, torch.exp(log_coeffs.double() + before - log_h))
    q = torch.where(empty, 0, torch.exp(log_values.double() - log_h))
    total, carried = torch.zeros_like(grad).double(), torch.zeros_like(log_h[..., 0, :])
    for t in reversed(range(log_h.shape[-2])):
        total[..., t, :] = grad[..., t, :] + carried
        carried = p[..., t, :] * total[..., t, :]
    return p * total, q * total, carried[..., None, :]


def _full(code: Tensor | None, shape: tuple[int, ...], default: bool) -> Tensor:
    return torch.full(shape, default) if code is None else code.expand(shape)


def embed(x: Tensor, weight: Tensor, bias: Tensor, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """x (terms, batch, seq, in_dim) as (terms, batch, seq, dim): x @ weight + bias."""
    return torch.einsum("fbtd,fdh->fbth", x.to(dtype), weight.to(dtype)) + bias.to(dtype)[:, None]


def feed_forward(x: Tensor, update: Tensor, *parameters: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """x + relu(LayerNorm(x + update) @ weight1 + bias1) @ weight2 + bias2, term by term in `dtype`.

    parameters: norm weight and bias (dim,), weight1 (terms, dim, dim), bias1 (terms, 1, dim), weight2, bias2; and those
    of `embed` where x is its input.
    """
    x, update = x.to(dtype), update.to(dtype)
    scale, shift, weight1, bias1, weight2, bias2, *embedding = (p.to(dtype) for p in parameters)
    if embedding:
        x = embed(x, *embedding, dtype=dtype)
    outputs = []
    for f in range(x.shape[0]):
        r = x[f] + update[f]
        centred = r - r.mean(-1, keepdim=True)
        n = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * scale + shift
        a = torch.relu(n @ weight1[f] + bias1[f])
        outputs.append(x[f] + a @ weight2[f] + bias2[f])
    return torch.stack(outputs)
