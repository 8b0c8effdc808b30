"""The visit pattern as a term of its own: when people came and how much was measured, apart from what was."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rnam import _checks
from rnam.backends.calls import state_dtype
from rnam.models.inputs import step_numbers
from rnam.models.streaming import State

__all__ = ["WIDTH", "Visits", "read_visits", "with_timing"]

WIDTH = 2  # inputs of the timing term


class Visits(NamedTuple):
    """pattern (batch, seq, 2): log1p of the time since the previous visit (0 at the first), and the share of terms that
    are observed; happened (batch, seq): whether a step is a visit, that is any term is observed at it; last (batch,):
    the time of the last visit (0 before any); any (batch,): whether there was one."""

    pattern: Tensor
    happened: Tensor
    last: Tensor
    any: Tensor


def read_visits(times: Tensor, observed: Tensor | None, like: Tensor, before: State | None = None) -> Visits:
    """The visits of a sequence. What `times` holds where no term is observed has no effect, NaN included.

    Args:
        times: (batch, seq), floating or integers of any width. A time before that of the previous visit acts as that. A
            gap between integers must be less than 2**63.
        observed: (terms, batch, seq), or None where all are.
        like: what the terms read, (terms, batch, seq, width); the pattern has its dtype.
        before: the state after the steps before these.
    """
    terms, *sizes = like.shape[:3]
    times = _wide("times", times)
    _checks.shape("times", times, "batch, seq", sizes)
    _checks.device("times", times, "input", like)
    if observed is None:
        happened = torch.ones_like(times, dtype=torch.bool)
        share = torch.ones_like(times, dtype=like.dtype)
    else:
        happened = observed.any(0)
        share = observed.sum(0).to(like.dtype) / terms
    times = torch.where(happened, times, 0)
    if before is None or before.last_visit is None or before.visited is None:
        last, seen = times.new_zeros(sizes[0]), happened.new_zeros(sizes[0])
    else:
        last, seen = _wide("state['last_visit']", before.last_visit), before.visited
        if last.is_floating_point() != times.is_floating_point():
            last, times = last.double(), times.double()
    every = torch.cat([last[:, None], times], dim=1)
    latest = step_numbers(torch.cat([seen[:, None], happened], dim=1)).cummax(-1).values
    latest_time = every.gather(1, latest.clamp(min=0))
    # in the dtype of the times, since differences of large ones lose digits in a narrower one
    gap = torch.where(latest[:, :-1] >= 0, times - latest_time[:, :-1], 0).clamp(min=0)
    pattern = torch.stack([gap.to(state_dtype(like)).log1p().to(like.dtype), share], dim=-1)
    some = latest[:, -1] >= 0
    return Visits(pattern, happened, torch.where(some, latest_time[:, -1], 0), some)


def _wide(name: str, times: Tensor) -> Tensor:
    """Times in a dtype in which no gap wraps or overflows: int64, float32 or float64."""
    _checks.tensor(name, times)
    if times.is_floating_point():
        return times if times.itemsize >= 4 else times.float()
    if times.dtype not in _checks.INTEGERS:
        raise TypeError(f"{name} must be a tensor of floats or integers, got {str(times.dtype).removeprefix('torch.')}")
    return _checks.integer(name, times)


def with_timing(x: Tensor, observed: Tensor | None, visits: Visits) -> tuple[Tensor, Tensor | None]:
    """x (terms, batch, seq, width) and `observed` with the timing term as the last."""
    width = max(x.shape[-1], WIDTH)
    x = torch.cat([F.pad(x, (0, width - x.shape[-1])), F.pad(visits.pattern, (0, width - WIDTH))[None]])
    return x, None if observed is None else torch.cat([observed, visits.happened[None]])
