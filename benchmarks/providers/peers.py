"""Other people's packages, each imported where it is used, so that a missing one is listed and nothing more.

Every one runs in its own contiguous layout. What is prepared outside of the timing (transposes, logarithms) is undone
when results are compared.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.protocol.provider import Bound, Provider, Unavailable, few_terms, leaves_of
from benchmarks.protocol.work import Work

Results = tuple[Tensor | None, ...]


def load(module: str, package: str) -> Any:
    """A module of an optional package."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Unavailable(f"{package} is not installed, or does not import: {error}") from error


def _cuda(work: Work) -> None:
    if work.device.type != "cuda":
        raise Unavailable("it runs on CUDA devices")


def _layers(work: Work, make: Callable[[], nn.Module], names: tuple[str, ...], empty: Tensor | None) -> Bound:
    """A layer for each term, in a Python loop; the weights of these names, one below the other, are W transposed."""
    terms, factor, note = few_terms(work)
    x, weight, *h0 = (t[:terms] for t in work.leaves)
    layers = [make().to(work.device, work.dtype) for _ in range(terms)]
    weights = tuple(layer.get_parameter(name) for layer in layers for name in names)
    with torch.no_grad():
        for own, rows in zip(weights, weight.mT.flatten(0, 1).chunk(len(weights)), strict=True):
            own.copy_(rows)
    x, *h0 = leaves_of(x, *h0)

    def call(x: Tensor, *rest: Tensor) -> Tensor:
        states = rest[-1].unbind() if h0 else [empty] * terms
        return torch.stack([f(term, state) for f, term, state in zip(layers, x.unbind(), states, strict=True)])

    def common(results: Results) -> Results:
        h, dx, *rest = results
        dw = torch.cat(rest[: len(weights)]).view(weight.mT.shape).mT
        return h, dx, dw, *rest[len(weights) :]

    leaves = (x, *weights, *h0)
    return Bound(call, leaves, work.incoming[:terms], common, terms=terms, factor=factor, note=note, moving=1)


def _min_gru_pytorch(work: Work) -> Bound:
    layer = load("minGRU_pytorch.minGRU", "minGRU-pytorch").minGRU
    if work.shape.dim != work.shape.hidden:
        raise Unavailable("it gives the state only where it is as wide as the input")
    return _layers(work, lambda: layer(work.shape.dim), ("to_hidden_and_gate.weight",), None)


def _mingru_scans(work: Work) -> Bound:
    """Its default state is no 0, so one is given."""
    make = lambda: load("mingru", "mingru-scans").MinGRU(work.shape.dim, work.shape.hidden, bias=False)
    empty = work.incoming.new_zeros(work.shape.batch, 1, work.shape.hidden)
    return _layers(work, make, ("linear_h.weight", "linear_z.weight"), empty)


def _channels_first(module: str, package: str) -> Callable[[Work], Bound]:
    """A `scan(gates, tokens)` over the last dimension of (batch, channels, steps)."""

    def bind(work: Work) -> Bound:
        _cuda(work)
        scan = load(module, package).scan
        turn = lambda t: t.transpose(1, 2).contiguous()
        common = lambda results: tuple(t.transpose(1, 2) for t in results)
        return Bound(scan, leaves_of(*map(turn, work.leaves)), turn(work.incoming), common)

    return bind


def _hgrn(name: str) -> Callable[[Work], Bound]:
    """h_t = exp(g_t) h_{t-1} + x_t on (batch, steps, channels): g is log a, and da = dg / a."""

    def bind(work: Work) -> Bound:
        _cuda(work)
        scan = getattr(load("fla.ops.hgrn", "flash-linear-attention"), name)
        a, b = work.leaves

        def common(results: Results) -> Results:
            h, dg, db = results
            return h, dg / a, db

        return Bound(lambda g, x: scan(x, g)[0], leaves_of(a.log(), b), work.incoming, common)

    return bind


def _mamba(work: Work) -> Bound:
    """Its scan with a state of 1, A = -1 and B = C = 1: h_t = exp(-d_t) h_{t-1} + d_t u_t, so d = -log a, u = b / d.

    Then db = du / d, and da = (u db - dd) / a as h depends on d through both.
    """
    _cuda(work)
    scan = load("mamba_ssm.ops.selective_scan_interface", "mamba-ssm").selective_scan_fn
    turn = lambda t: t.transpose(1, 2).contiguous()
    a, b = (turn(t.float()) for t in work.leaves)
    delta = -a.log()
    u = b / delta
    one = torch.ones(a.shape[1], 1, device=work.device)

    def common(results: Results) -> Results:
        h, d_delta, du = results
        db = du / delta
        return tuple(t.transpose(1, 2) for t in (h, (u * db - d_delta) / a, db))

    call = lambda delta, u: scan(u, delta, -one, one, one)
    return Bound(call, leaves_of(delta.to(work.dtype), u.to(work.dtype)), turn(work.incoming), common)


def _mingru_linear(work: Work) -> Bound:
    scan = load("mingru", "mingru-scans").linear_scan
    return Bound(lambda a, b: scan(a, b)[1], leaves_of(*work.leaves), work.incoming)


PROVIDERS = {
    "min_gru": [
        Provider("minGRU-pytorch", _min_gru_pytorch, log_sums=True),
        Provider("mingru-scans", _mingru_scans, log_sums=True),
    ],
    "linear_scan": [
        Provider("accelerated-scan-warp", _channels_first("accelerated_scan.warp", "accelerated-scan")),
        Provider("accelerated-scan-scalar", _channels_first("accelerated_scan.scalar", "accelerated-scan")),
        Provider("hgrn-fused", _hgrn("fused_recurrent_hgrn")),
        Provider("hgrn-chunk", _hgrn("chunk_hgrn")),
        Provider("mamba-ssm", _mamba),
        Provider("mingru-scans", _mingru_linear),
    ],
    "log_scan": [],
}
