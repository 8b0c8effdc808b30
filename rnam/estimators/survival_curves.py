"""Kaplan-Meier curves, bins of time, and survival from the hazards of bins. NumPy in float64.

An event at a time comes before what else happens at that time: who is censored then was at risk of it, and a visit then
was before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Grid", "KaplanMeier", "censoring", "event_quantiles"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class KaplanMeier:
    """The product-limit estimate S(t) = prod over event times t_j <= t of (1 - d_j / n_j).

    Args:
        times: float64 (events,), rising: the different times of events.
        died: float64 (events,), d_j: events at each, weighted.
        at_risk: float64 (events,), n_j: who came before and is still observed, weighted.
        rows: int64 (events,), how many these are, without weights.
    """

    times: Floats
    died: Floats
    at_risk: Floats
    rows: NDArray[np.int64]

    @classmethod
    def fit(cls, time: Floats, event: Bools, entry: Floats | None = None, weight: Floats | None = None) -> Self:
        """The curve of people who are observed from `entry` (from the start, where None) until `time`."""
        entry = np.full(len(time), -np.inf) if entry is None else entry
        weight = np.ones(len(time)) if weight is None else weight
        kept = weight > 0
        time, event, entry, weight = time[kept], event[kept], entry[kept], weight[kept]
        times, place = np.unique(time[event], return_inverse=True)
        died = np.bincount(place, weight[event], minlength=len(times))
        ones = np.ones(len(time))
        at_risk = _up_to(times, entry, weight, "right") - _up_to(times, time, weight, "left")
        rows = _up_to(times, entry, ones, "right") - _up_to(times, time, ones, "left")
        return cls(times, died.astype(np.float64), np.maximum(at_risk, died), rows.astype(np.int64))

    @property
    def survival(self) -> Floats:
        """float64 (events,): S after each event time."""
        return np.asarray(np.cumprod(1.0 - self.died / self.at_risk), np.float64)

    def at(self, times: Floats) -> Floats:
        """S(t), with the events at t."""
        return np.append(1.0, self.survival)[np.searchsorted(self.times, times, side="right")]

    @property
    def hazards(self) -> Floats:
        """float64 (events,): -log(1 - d_j / n_j). Where all that are at risk have the event it is that of all but half
        a person, since it would be infinite."""
        share = np.minimum(self.died / self.at_risk, 1.0 - 0.5 / self.rows)
        return -np.log1p(-share)


def _up_to(times: Floats, values: Floats, weight: Floats, side: Any) -> Floats:
    """The weight of values <= times (side "right") or < times (side "left")."""
    order = np.argsort(values, kind="stable")
    return np.append(0.0, np.cumsum(weight[order]))[np.searchsorted(values[order], times, side=side)]


def censoring(time: Floats, event: Bools, entry: Floats | None = None, weight: Floats | None = None) -> KaplanMeier:
    """The curve of staying under observation. Who has the event at a time is not at risk of being censored then."""
    weight = np.ones(len(time)) if weight is None else weight
    # just after an event at t and just before a censoring at t: the event leaves the risk set in time
    left = np.where(event, np.nextafter(time, -np.inf), time)
    return KaplanMeier.fit(left, ~event, entry, weight)


def event_quantiles(time: Floats, event: Bools, bins: int) -> Floats:
    """The right edges of at most `bins` bins with as many events each. Each edge is the time of an event, the last one
    that of the last."""
    shares = np.arange(1, bins + 1) / bins
    return np.unique(np.quantile(time[event], shares, method="inverted_cdf"))


@dataclass(frozen=True)
class Grid:
    """Bins of time, and how the hazard of a bin spreads over it.

    Bin k is the time after edge k - 1 up to edge k; the first one begins at 0, included. Inside a bin the hazards of
    everybody are proportional to those of the Kaplan-Meier curve. So each time has a position, a number from 0 to the
    number of bins, and with the hazard h_k of bin k

        S(t) = prod over bins k of (1 - h_k) ** e_k(t),    e_k(t) = position(t) - (k - 1), at least 0 and at most 1.

    With the hazards of the Kaplan-Meier curve over each bin this is the curve itself, at every time.

    Args:
        edges: the right edges of the bins.
        jumps: the times of events up to the last edge.
        positions: after each jump.
        cumulative: of the curve, the hazard -log(1 - h_k) of each bin.
        longest: the longest time that was seen, at which an event came or observation ended.
    """

    edges: tuple[float, ...]
    jumps: tuple[float, ...]
    positions: tuple[float, ...]
    cumulative: tuple[float, ...]
    longest: float

    @classmethod
    def fit(cls, edges: Any, curve: KaplanMeier, longest: float) -> Self:
        """Bins that each hold an event of the curve."""
        right = np.asarray(edges, np.float64)
        inside = curve.times <= right[-1]
        jumps, hazards = curve.times[inside], curve.hazards[inside]
        bins = np.searchsorted(right, jumps, side="left")
        cumulative = np.bincount(bins, hazards, minlength=len(right))
        before = np.append(0.0, np.cumsum(cumulative))[bins]
        positions = bins + np.minimum((np.cumsum(hazards) - before) / cumulative[bins], 1.0)
        last = np.append(np.diff(bins) > 0, True)
        positions[last] = bins[last] + 1  # whole, whatever the sum was rounded to
        edges, at, reached, hazard = (tuple(array.tolist()) for array in (right, jumps, positions, cumulative))
        return cls(edges, at, reached, hazard, float(longest))

    def __len__(self) -> int:
        return len(self.edges)

    def to_dict(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Self:
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in d.items()}
        return cls(**values)

    def after(self, times: Floats) -> Floats:
        """Positions after the events at these times."""
        return np.append(0.0, self.positions)[np.searchsorted(self.jumps, times, side="right")]

    def before(self, times: Floats) -> Floats:
        """Positions before the events at these times."""
        return np.append(0.0, self.positions)[np.searchsorted(self.jumps, times, side="left")]

    def exposure(self, start: Floats, end: Floats) -> Floats:
        """(..., bins): how much of each bin lies between two positions."""
        bins = np.arange(len(self))
        reached = [np.clip(position[..., None] - bins, 0.0, 1.0) for position in (start, end)]
        return np.asarray(reached[1] - reached[0])

    def likelihood(self, start: Floats, end: Floats, event: Bools) -> Floats:
        """What the likelihood of people reads, who are observed from `start` to `end`: (people, 2 bins).

        The first half is how much of each bin was survived. The second is how much of a bin the event took, 0 without
        one. An event between two jumps counts at the later one of its bin, or the last one. One after the last edge was
        not seen.
        """
        seen = event & (end <= self.edges[-1])
        jumps, positions = np.asarray(self.jumps), np.asarray(self.positions)
        bins = np.minimum(np.searchsorted(self.edges, end, side="left"), len(self) - 1)
        jump = np.minimum(np.searchsorted(jumps, end, side="left"), len(jumps) - 1)
        jump = np.where(np.searchsorted(self.edges, jumps[jump], side="left") > bins, jump - 1, jump)
        low = np.append(0.0, positions)[jump]
        reached = np.where(seen, low, self.after(end))
        survived = self.exposure(np.minimum(self.before(start), reached), reached)
        taken = np.where(seen, positions[jump] - low, 0.0)
        return np.concatenate([survived, np.where(np.arange(len(self)) == bins[:, None], taken[:, None], 0.0)], axis=1)

    def survival(self, cumulative: Floats, start: Floats, end: Floats) -> Floats:
        """log P(no event until position `end` | none until `start`), given -log(1 - h_k) (..., bins)."""
        return -np.asarray((self.exposure(start, end) * cumulative).sum(-1))
