"""Times: what passes between the observed steps of a term, and the pattern of the visits as a term of its own, when
people came and how much was measured, apart from what was."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rnam import _checks
from rnam._checks import shown
from rnam.backends.calls import state_dtype
from rnam.models.inputs import step_numbers
from rnam.models.streaming import State

__all__ = ["WIDTH", "Elapsed", "Visits", "read_elapsed", "read_visits", "warn_of_coarse_times", "with_timing"]

WIDTH = 2  # inputs of the timing term


class Visits(NamedTuple):
    """pattern (batch, seq, 2): log1p of the time since the previous visit (0 at the first), and the share of terms that
    are observed; happened (batch, seq): whether a step is a visit, that is any term is observed at it; last (batch,):
    the time of the last visit (0 before any); any (batch,): whether there was one."""

    pattern: Tensor
    happened: Tensor
    last: Tensor
    any: Tensor


def read_visits(
    times: Tensor, observed: Tensor | None, like: Tensor, before: State | None = None, unit: float = 1.0
) -> Visits:
    """The visits of a sequence. What `times` holds where no term is observed has no effect, NaN included.

    Args:
        times: (batch, seq), floating or integers of any width. A time before that of the previous visit acts as that. A
            gap from or to an integer must be less than 2**63, or infinite.
        observed: (terms, batch, seq), or None where all are.
        like: what the terms read, (terms, batch, seq, width); the pattern has its dtype.
        before: the state after the steps before these.
        unit: the time that counts as 1.
    """
    start = None
    if before is not None and before.last_visit is not None and before.visited is not None:
        start = _wide("state['last_visit']", before.last_visit), before.visited
    times = _checked(times, like, start)
    if observed is None:
        happened = torch.ones_like(times, dtype=torch.bool)
        share = torch.ones_like(times, dtype=like.dtype)
    else:
        happened = observed.any(0)
        share = observed.sum(0).to(like.dtype) / like.shape[0]
    gaps = _gaps(times, happened, start)
    pattern = torch.stack([gaps.units(like, unit).log1p().to(like.dtype), share], dim=-1)
    return Visits(pattern, happened, gaps.last, gaps.any)


class Elapsed(NamedTuple):
    """elapsed (terms, batch, seq), or (1, batch, seq) for all: what passed since the last observed step of that term, 1
    at its first; last (terms, batch): the time of the last observed step (0 before any)."""

    elapsed: Tensor
    last: Tensor


def read_elapsed(
    times: Tensor, observed: Tensor | None, like: Tensor, before: State | None = None, unit: float = 1.0
) -> Elapsed:
    """The time between the observed steps of each term. It goes on over the masked ones, at which elapsed is of no use.
    The arguments are those of `read_visits`; elapsed is float32, or float64 like the terms."""
    terms, start = like.shape[0], None
    if before is not None and before.last_times is not None:
        start = _wide("state['last_times']", before.last_times), before.observed[:terms]
    times = _checked(times, like, start)
    if observed is None:
        observed = torch.ones(1 if start is None else terms, *times.shape, dtype=torch.bool, device=times.device)
    gaps = _gaps(times, observed, start)
    return Elapsed(torch.where(gaps.first, 1, gaps.units(like, unit)), gaps.last.expand(terms, -1))


class _Gaps(NamedTuple):
    """since (*, batch, seq): the time since the last step that counts, at least 0, 0 where there is none; first: where
    there is none; last (*, batch): the time of the last step that counts (0 where there is none); any: whether there is
    one."""

    since: Tensor
    first: Tensor
    last: Tensor
    any: Tensor

    def units(self, like: Tensor, unit: float) -> Tensor:
        """The gaps in units of time, in the dtype of the states of `like`."""
        dtype = state_dtype(like)
        return (self.since.to(torch.promote_types(self.since.dtype, dtype)) / unit).to(dtype)


def _gaps(times: Tensor, counts: Tensor, before: tuple[Tensor, Tensor] | None) -> _Gaps:
    """times (batch, seq), counts (*, batch, seq), and the last and any (*, batch) of the steps before."""
    times = torch.where(counts, times, 0)
    if before is None:
        last, some = times.new_zeros(counts.shape[:-1]), counts.new_zeros(counts.shape[:-1])
    else:
        last, some = before
        if times.is_floating_point() and not last.is_floating_point():
            last, times = _unwrapped(last, times), times.double()
    every = torch.cat([last[..., None], times], dim=-1)
    latest = step_numbers(torch.cat([some[..., None], counts], dim=-1)).cummax(-1).values
    latest_time = every.gather(-1, latest.clamp(min=0))
    first = latest[..., :-1] < 0
    # in the dtype of the times, since differences of large ones lose digits in a narrower one
    steady = times == latest_time[..., :-1]  # inf - inf would be NaN
    since = torch.where(first | steady, 0, times - latest_time[..., :-1]).clamp(min=0)
    there = latest[..., -1] >= 0
    return _Gaps(since, first, torch.where(there, latest_time[..., -1], 0), there)


def _unwrapped(last: Tensor, times: Tensor) -> Tensor:
    """Integers of uint64 from 2**63 on, which are negative in int64, as float64 where the times (*, batch, seq) after
    them are as large: else there would be a gap of 2**63 or more."""
    large = ((times >= 2.0**63) & times.isfinite()).any(-1)
    return torch.where((last < 0) & large, last.double() + 2.0**64, last.double())


def warn_of_coarse_times(times: Tensor, observed: Tensor | None, unit: float) -> None:
    """Warns of floating times that a unit does not change, such as seconds since 1970 in float32, where looking costs
    nothing."""
    if not times.is_floating_point() or times.dtype == torch.float64 or not _checks.is_readable(times):
        return
    seen = times.detach() if observed is None else times.detach()[observed.any(0)]
    largest = float(seen.float().abs().nan_to_num(0, 0).max()) if seen.numel() else 0.0
    coarse = 2 / torch.finfo(times.dtype).eps * unit
    if largest >= coarse:
        dtype = str(times.dtype).removeprefix("torch.")
        warnings.warn(
            f"times in {dtype} must be below {shown(coarse)}, from where a unit of {shown(unit)} is lost in rounding, "
            f"got {shown(largest)}: give integers or float64, or times since a later start",
            UserWarning,
            stacklevel=2,
        )


def _checked(times: Tensor, like: Tensor, start: tuple[Tensor, Tensor] | None) -> Tensor:
    """Times that go with what the terms read, in a dtype in which no gap wraps or overflows: float64 for integers after
    a floating one, since uint64 would wrap."""
    wide = _wide("times", times)
    floating = start is not None and start[0].is_floating_point() and not times.is_floating_point()
    times = times.double() if floating else wide
    _checks.shape("times", times, "batch, seq", like.shape[1:3])
    _checks.device("times", times, "input", like)
    return times


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
