"""torch.compile of the published form, of projection + gates + associative_scan, and of a plain step loop.

Each (shape, type) gets a compilation of its own with fixed sizes, which is the fastest that torch.compile makes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.protocol.provider import Bound, Provider, Unavailable, leaves_of
from benchmarks.protocol.work import Work
from benchmarks.providers import published

# A step loop is unrolled: 48 steps compile in about half a minute on two cores, and the time grows
# faster than the steps.
MOST_UNROLLED_STEPS = 64


def _affine(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return left[0] * right[0], left[1] * right[0] + right[1]


def _log_affine(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return left[0] + right[0], torch.logaddexp(left[1] + right[0], right[1])


def linear_scan(a: Tensor, b: Tensor) -> Tensor:
    return _associative(_affine, a, b)


def log_scan(log_a: Tensor, log_b: Tensor) -> Tensor:
    return _associative(_log_affine, log_a, log_b)


def _associative(combine: Callable[..., tuple[Tensor, Tensor]], a: Tensor, b: Tensor) -> Tensor:
    from torch._higher_order_ops.associative_scan import associative_scan  # private, and may go

    h: Tensor = associative_scan(combine, (a, b), dim=a.dim() - 2, combine_mode="generic")[1]
    return h


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


def bind(function: Callable[..., Tensor], most_steps: int | None = None) -> Callable[[Work], Bound]:
    """A provider's `bind` for a compiled function of the common layout."""

    def bind_(work: Work) -> Bound:
        if most_steps is not None and work.shape.steps > most_steps:
            raise Unavailable(f"{work.shape.steps} unrolled steps are not compiled, {most_steps} at most")
        return Bound(torch.compile(function, dynamic=False), leaves_of(*work.leaves), work.incoming)

    return bind_


def _providers(published_form: Callable[..., Tensor], associative: Callable[..., Tensor]) -> list[Provider]:
    return [
        Provider("published-compiled", bind(published_form), log_sums=True, compiled=True),
        Provider("associative-compiled", bind(associative), compiled=True),
    ]


PROVIDERS = {
    "min_gru": [
        *_providers(published.min_gru, min_gru),
        Provider("steps-compiled", bind(steps, MOST_UNROLLED_STEPS), compiled=True),
    ],
    "linear_scan": _providers(published.linear_scan, linear_scan),
    "log_scan": _providers(published.log_scan, log_scan),
}
