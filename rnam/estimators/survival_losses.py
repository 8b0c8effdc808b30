"""The losses of survival models: of hazards over bins, and of the event by each horizon with censoring weights.

A model gives a logit z_k for each bin: the log-odds of the event in the bin among those who reach it. So
-log(1 - h_k) = softplus(z_k), and survival is a sum of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from rnam._checks import shown
from rnam.estimators.losses import Criterion, Loss
from rnam.estimators.survival_curves import Grid, KaplanMeier, censoring, event_quantiles
from rnam.estimators.survival_outcomes import Outcomes

__all__ = ["Method", "Scale", "SurvivalLoss", "hazard_loss", "horizon_loss", "horizon_weights"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Observed = Callable[[Floats], Floats]
Method = Literal["hazards", "ipcw"]
Scale = Literal["visit", "clock"]

TINY = -9.0  # of log x: below, -log(1 - exp(-x)) is x / 2 - log x to x^2 / 24
LEFT = -15.0  # of a logit: below, log softplus(z) is z to exp(z) / 2


def hazard_loss(logits: Tensor, target: Tensor) -> Tensor:
    """-log likelihood of discrete-time hazards, as in Gensheimer and Narasimhan (2019), nnet-survival.

    With the shares e_k of bins that were survived, and the share a of the bin K that the event took, it is

        sum_k e_k softplus(z_k) - log(1 - (1 - h_K) ** a),

    the second term where there was an event. Censoring and entry inside a bin are shares of it, see `Grid`.

    Args:
        logits: (..., labels, bins).
        target: (labels, 2 bins), `Grid.likelihood`.

    Returns:
        (..., labels).
    """
    survived, taken = target.chunk(2, dim=-1)
    event = taken > 0
    log_taken = torch.where(event, taken, 1.0).log() + _log_softplus(logits)
    return (survived * softplus(logits) + torch.where(event, _minus_log_event(log_taken), 0.0)).sum(-1)


def horizon_loss(logits: Tensor, target: Tensor) -> Tensor:
    """-log likelihood of the event by each of several horizons, weighted by the inverse probability of censoring.

    The probability by horizon j is 1 - exp(-c_j), c_j = sum of softplus(z_k) over bins k <= j, which rises with the
    horizon. With one horizon it is a logistic regression on the outcomes that are known.

    Args:
        logits: (..., labels, horizons).
        target: (labels, 2 horizons), `horizon_weights`.

    Returns:
        (..., labels).
    """
    without, with_event = target.chunk(2, dim=-1)
    cumulative = softplus(logits).cumsum(-1)
    log_cumulative = torch.logcumsumexp(_log_softplus(logits), dim=-1)
    return (without * cumulative + with_event * _minus_log_event(log_cumulative)).sum(-1)


def _log_softplus(z: Tensor) -> Tensor:
    far = z < LEFT
    return torch.where(far, z, softplus(torch.where(far, 0.0, z)).log())


def _minus_log_event(log_x: Tensor) -> Tensor:
    """-log(1 - exp(-x))."""
    tiny = log_x < TINY
    inside = torch.where(tiny, 0.0, log_x).exp()
    return torch.where(tiny, log_x.exp() / 2 - log_x, -(-torch.expm1(-inside)).log())


def horizon_weights(horizons: Floats, start: Floats, end: Floats, event: Bools, observed: Observed) -> Floats:
    """(labels, 2 horizons): weights of having had no event by start + horizon, and of having had one.

    With the probability G of staying under observation, an event at T by then weighs G(start-) / G(T-). Who was
    observed until then without one weighs G(start-) / G((start + horizon)-). Others weigh nothing: what became of them
    is not known.

    Args:
        horizons: (horizons,), from the visit on.
        start, end, event: (labels,), of `Outcomes`.
        observed: times to G(time-), on the scale of `start` and `end`.
    """
    reached = start[:, None] + horizons
    died = event[:, None] & (end[:, None] <= reached)
    known = (end[:, None] >= reached) & ~died
    began = observed(start)[:, None]
    without = np.where(known, began / observed(reached), 0.0)
    return np.concatenate([without, np.where(died, began / observed(end)[:, None], 0.0)], axis=1)


@dataclass(frozen=True, kw_only=True)
class SurvivalLoss(Loss):
    """The loss of survival, whose labels are rows of `Outcomes.table`.

    Attributes:
        name: "hazards" or "ipcw".
        grid: the bins. With "ipcw" their edges are the horizons.
        time_scale: "visit", where bins count from the visit, or "clock", where they are of the panel's times.
        spans: times from the visit on, over which a risk is averaged.
        ends: of "ipcw", the different times at which observation ended without an event.
        observed: the probability of being observed after each.
    """

    grid: Grid
    time_scale: Scale
    spans: tuple[float, ...]
    ends: tuple[float, ...]
    observed: tuple[float, ...]

    @classmethod
    def of(cls, method: Method, scale: Scale, edges: Sequence[float] | int, target: Any, weight: Any = None) -> Self:
        """The loss for these labels, which are those of the training part alone.

        Args:
            method: "hazards" or "ipcw".
            scale: "visit" or "clock".
            edges: of the bins, on the scale, or how many there are, with as many events each.
            target: (labels, 4), `Outcomes.table`.
            weight: (labels,), at least 0; ones by default.

        Raises:
            ValueError: there is no event, or none in one of the bins; a horizon is longer than any time that was seen.
        """
        found = Outcomes.of_table(target)
        weight = np.ones(len(found.end)) if weight is None else np.asarray(weight, np.float64)
        counted = weight > 0
        if not found.event[counted].any():
            raise ValueError(f"y must have an event in the training part, got none in {counted.sum()} labels")
        start, end = _on_scale(found, scale)
        right = (
            event_quantiles(end[counted], found.event[counted], edges)
            if isinstance(edges, int)
            else np.asarray(edges, np.float64)
        )
        curve = KaplanMeier.fit(end, found.event, start, weight)
        held = np.bincount(np.searchsorted(right, curve.times, side="left"), minlength=len(right))[: len(right)]
        if not held.all():
            n, argument = int(held.argmin()), "times" if method == "ipcw" else "bins"
            raise ValueError(
                f"{argument} must part time into bins that each hold an event of the training part, got none up to "
                f"{argument}[{n}]={shown(right[n])}"
            )
        last, longest = float(right[-1]), float(end[counted].max())
        if method == "ipcw" and last > longest:
            n = len(right) - 1
            raise ValueError(
                f"times[{n}] must be at most {shown(longest)}, the longest time that was seen in training, got "
                f"{shown(last)}"
            )
        cut = method == "ipcw" or bool((curve.times > last).any())
        grid = Grid.fit(right, curve, last if cut else longest)
        spans = grid.edges
        if scale == "clock":
            spans = tuple(event_quantiles(found.time[counted], found.event[counted], len(grid)).tolist())
        ends, observed = (), ()
        if method == "ipcw":
            entry, until, event, counts = found.spells(weight)
            staying = censoring(until, event, entry, counts)
            ends, observed = tuple(staying.times.tolist()), tuple(np.exp(-np.cumsum(staying.hazards)).tolist())
        hazards = np.asarray(grid.cumulative)
        first = tuple((hazards + np.log(-np.expm1(-hazards))).tolist())
        return cls(
            name=method, targets=1, classes=0, quantiles=(), out_dim=len(grid), start=first, centre=(0.0,),
            scale=(1.0,), grid=grid, time_scale=scale, spans=spans, ends=ends, observed=observed,
        )  # fmt: skip

    @property
    def link(self) -> str:
        return "logit"

    def scaled(self, target: Any) -> Tensor:
        """Labels (labels, 4) as `__call__` takes them, float32 (labels, 2 bins)."""
        found = Outcomes.of_table(target)
        if self.name == "ipcw":
            read = horizon_weights(np.asarray(self.grid.edges), found.start, found.end, found.event, self._observed)
        else:
            read = self.grid.likelihood(*_on_scale(found, self.time_scale), found.event)
        return torch.from_numpy(np.ascontiguousarray(read, np.float32))

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (horizon_loss if self.name == "ipcw" else hazard_loss)(prediction, target)

    def output_names(self, targets: Sequence[str], classes: Sequence[str] = ()) -> list[str]:
        names = [f"until {edge:g}" for edge in self.grid.edges]
        return names if len(set(names)) == len(names) else [f"until {edge!r}" for edge in self.grid.edges]

    def log_survival(self, output: Any, start: Floats, times: Floats) -> Floats:
        """log P(no event until start + time | none before start), (rows, times). NaN where time_scale is "clock" and
        start + time is later than what was seen.

        Args:
            output: (rows, bins), what the model gives.
            start: (rows,), when the visit was; read where time_scale is "clock".
            times: (times,), from the visit on.
        """
        cumulative = np.logaddexp(0.0, np.asarray(output, np.float64))
        start = start if self.time_scale == "clock" else np.zeros(1)
        found = np.empty((len(cumulative), len(times)))
        for n, time in enumerate(times):
            found[:, n] = self.grid.survival(cumulative, self.grid.before(start), self.grid.after(start + time))
            found[np.broadcast_to(start + time > self.grid.longest, len(found)), n] = np.nan
        return found

    def risk(self, output: Any, start: Floats) -> Floats:
        """(rows,): the mean over `spans` of the cumulative hazard until then. Where time_scale is "clock" the hazard
        past what was seen counts nothing, and the risk is NaN where `start` itself is later.

        Args:
            output, start: as `log_survival`.
        """
        cumulative = np.logaddexp(0.0, np.asarray(output, np.float64))
        start = start if self.time_scale == "clock" else np.zeros(1)
        began = self.grid.before(start)
        ends = [self.grid.after(start + time) for time in self.spans]
        found = np.mean([-self.grid.survival(cumulative, began, end) for end in ends], axis=0)
        found[np.broadcast_to(start > self.grid.longest, len(found))] = np.nan
        return np.asarray(found, np.float64)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "grid": self.grid.to_dict()}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any], criterion: Criterion | None = None) -> Self:
        return super().from_dict({**told, "grid": Grid.from_dict(told["grid"])}, criterion)

    def _observed(self, times: Floats) -> Floats:
        return np.append(1.0, self.observed)[np.searchsorted(self.ends, times, side="left")]


def _on_scale(found: Outcomes, scale: Scale) -> tuple[Floats, Floats]:
    return (found.start, found.end) if scale == "clock" else (np.zeros(len(found.end)), found.time)
