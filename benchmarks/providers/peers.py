"""Other people's packages, each imported where it is used, so that a missing one is listed and nothing more.

Every one runs in its own contiguous layout, and what it reads (transposes, logarithms) is made outside of the timing.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.protocol.provider import Bound, Provider, Results, Unavailable, few_terms, leaves_of, plain, prepared
from benchmarks.protocol.work import Work

# torch.nn.GRU launches kernels for every step, some 10 us on a GPU: a million steps take half a minute a call.
MOST_GRU_STEPS = 10_000


def load(module: str, package: str, on_cuda: Work | None = None) -> Any:
    """A module of an optional package, which runs on CUDA devices alone where the work is given."""
    if on_cuda is not None and on_cuda.device.type != "cuda":
        raise Unavailable("it runs on CUDA devices")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Unavailable(f"{package} is not installed, or does not import: {error}") from error


def _layers(
    work: Work,
    make: Callable[[], nn.Module],
    names: tuple[str, ...] = (),
    run: Callable[..., Tensor] = lambda layer, x, h0: layer(x, h0),
    empty: Tensor | None = None,
) -> Bound:
    """A layer for each term, in a Python loop; the weights of these names, one below the other, are W transposed."""
    few = few_terms(work)
    x, weight, *h0 = leaves_of(*(t[: few["terms"]] for t in work.leaves))
    layers = [make().to(work.device, work.dtype) for _ in x]
    weights = [p for layer in layers for p in (map(layer.get_parameter, names) if names else layer.parameters())]
    with torch.no_grad():
        for own, rows in zip(weights if names else (), weight.mT.flatten(0, 1).chunk(len(weights)), strict=False):
            own.copy_(rows)

    def call(x: Tensor, *rest: Tensor) -> Tensor:
        states = rest[-1].unbind() if h0 else [empty] * len(layers)
        return torch.stack([run(*each) for each in zip(layers, x.unbind(), states, strict=True)])

    def common(results: Results) -> Results:
        h, dx, *rest = results
        dw = torch.cat(rest[: len(weights)]).view(weight.mT.shape).mT
        return h, dx, dw, *rest[len(weights) :]

    return Bound(call, (x, *weights, *h0), work.incoming[: few["terms"]], common, moving=1, **few)


def _min_gru_pytorch(work: Work) -> Bound:
    layer = load("minGRU_pytorch.minGRU", "minGRU-pytorch").minGRU
    if work.shape.dim != work.shape.hidden:
        raise Unavailable("it gives the state only where it is as wide as the input")
    return _layers(work, lambda: layer(work.shape.dim), ("to_hidden_and_gate.weight",))


def _mingru_scans(work: Work) -> Bound:
    """Its default state is no 0, so one is given."""
    make = lambda: load("mingru", "mingru-scans").MinGRU(work.shape.dim, work.shape.hidden, bias=False)
    empty = work.incoming.new_zeros(work.shape.batch, 1, work.shape.hidden)
    return _layers(work, make, ("linear_h.weight", "linear_z.weight"), empty=empty)


def _gru(work: Work) -> Bound:
    """torch.nn.GRU: another cell of the same sizes, so nothing is compared."""
    shape = work.shape
    if shape.state:
        raise Unavailable("not written for a state")
    if shape.steps > MOST_GRU_STEPS:
        raise Unavailable(f"{shape.steps} steps are not run one by one, {MOST_GRU_STEPS} at most")
    make = lambda: nn.GRU(shape.dim, shape.hidden, batch_first=True)
    bound = _layers(work, make, run=lambda layer, x, _: layer(x)[0])
    return dataclasses.replace(bound, note="; ".join(filter(None, ("another cell, not compared", bound.note))))


def _turn(t: Tensor) -> Tensor:
    return t.mT.contiguous()


def _channels_first(work: Work, module: str) -> Bound:
    """A `scan(gates, tokens)` over the last dimension of (batch, channels, steps)."""
    scan = load(f"accelerated_scan.{module}", "accelerated-scan", work).scan
    return prepared(work, scan, lambda a, b: (_turn(a), _turn(b)), _turn)


def _hgrn(work: Work, name: str) -> Bound:
    """h_t = exp(g_t) h_{t-1} + x_t on (batch, steps, channels), so g = log a."""
    scan = getattr(load("fla.ops.hgrn", "flash-linear-attention", work), name)
    return prepared(work, lambda g, x: scan(x, g)[0], lambda a, b: (a.log(), b))


def _mamba(work: Work) -> Bound:
    """Its scan with a state of 1, A = -1 and B = C = 1: h_t = exp(-d_t) h_{t-1} + d_t u_t, so d = -log a, u = b / d."""
    scan = load("mamba_ssm.ops.selective_scan_interface", "mamba-ssm", work).selective_scan_fn
    one = torch.ones(work.shape.hidden, 1, device=work.device)

    def inputs(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        a, b = (_turn(t.float()) for t in (a, b))
        return -a.log().to(work.dtype), (b / -a.log()).to(work.dtype)

    return prepared(work, lambda delta, u: scan(u, delta, -one, one, one), inputs, _turn)


def _mingru_linear(work: Work) -> Bound:
    scan = load("mingru", "mingru-scans").linear_scan
    return plain(lambda a, b: scan(a, b)[1])(work)


PROVIDERS = {
    "min_gru": [
        Provider("minGRU-pytorch", _min_gru_pytorch, log_sums=True),
        Provider("mingru-scans", _mingru_scans, log_sums=True),
        Provider("nn.GRU", _gru, checked=False),
    ],
    "linear_scan": [
        Provider("accelerated-scan-warp", functools.partial(_channels_first, module="warp")),
        Provider("accelerated-scan-scalar", functools.partial(_channels_first, module="scalar")),
        Provider("hgrn-fused", functools.partial(_hgrn, name="fused_recurrent_hgrn")),
        Provider("hgrn-chunk", functools.partial(_hgrn, name="chunk_hgrn")),
        Provider("mamba-ssm", _mamba),
        Provider("mingru-scans", _mingru_linear),
    ],
    "log_scan": [],
}
