"""torch.compile of the published form, of projection + gates + associative_scan, and of a plain step loop.

Each (shape, type) gets a compilation of its own with fixed sizes, which is the fastest that torch.compile makes.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.protocol.provider import Bound, Provider, Unavailable, plain
from benchmarks.protocol.work import Work
from benchmarks.providers import published

# A step loop is unrolled: 48 steps compile in about half a minute on two cores, and the time grows
# faster than the steps.
MOST_UNROLLED_STEPS = 64


def _associative(combine: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[Tensor, Tensor], Tensor]:
    def scan(a: Tensor, b: Tensor) -> Tensor:
        from torch._higher_order_ops.associative_scan import associative_scan  # private, and may go

        return associative_scan(combine, (a, b), dim=a.dim() - 2, combine_mode="generic")[1]

    return scan


linear_scan = _associative(lambda left, right: (left[0] * right[0], left[1] * right[0] + right[1]))
log_scan = _associative(lambda left, right: (left[0] + right[0], torch.logaddexp(left[1] + right[0], right[1])))


def gates(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(a, b) of h_t = a_t h_{t-1} + b_t."""
    u, k = published.project(x, weight)
    return torch.sigmoid(-k), torch.sigmoid(k) * published.g(u)


def min_gru(x: Tensor, weight: Tensor, h0: Tensor | None = None) -> Tensor:
    a, b = gates(x, weight)
    if h0 is not None:
        b = torch.cat([b[:, :, :1] + a[:, :, :1] * h0, b[:, :, 1:]], 2)
    return linear_scan(a, b)


def steps(x: Tensor, weight: Tensor, h0: Tensor | None = None) -> Tensor:
    """The recurrence, a step at a time."""
    a, b = gates(x, weight)
    h = torch.zeros_like(b[:, :, 0]) if h0 is None else h0[:, :, 0]
    states = []
    for t in range(x.shape[2]):
        h = a[:, :, t] * h + b[:, :, t]
        states.append(h)
    return torch.stack(states, 2)


def _steps(work: Work) -> Bound:
    if work.shape.steps > MOST_UNROLLED_STEPS:
        raise Unavailable(f"{work.shape.steps} unrolled steps are not compiled, {MOST_UNROLLED_STEPS} at most")
    return _bind(work, steps)


def _bind(work: Work, function: Callable[..., Tensor]) -> Bound:
    return plain(torch.compile(function, dynamic=False))(work)


def _providers(published_form: Callable[..., Tensor], associative: Callable[..., Tensor]) -> list[Provider]:
    bind = lambda function: functools.partial(_bind, function=function)
    return [
        Provider("published-compiled", bind(published_form), log_sums=True, compiled=True),
        Provider("associative-compiled", bind(associative), compiled=True),
    ]


PROVIDERS = {
    "min_gru": [*_providers(published.min_gru, min_gru), Provider("steps-compiled", _steps, compiled=True)],
    "linear_scan": _providers(published.linear_scan, linear_scan),
    "log_scan": _providers(published.log_scan, log_scan),
}
