"""The losses of survival models: of hazards over bins, and of the event by each horizon with censoring weights.

A model gives a logit z_k for each bin: the log-odds of the event in the bin among those who reach it. So
-log(1 - h_k) = softplus(z_k), and survival is a sum of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from rnam.estimators.survival_curves import Grid, KaplanMeier

__all__ = ["SurvivalLoss", "hazard_loss", "horizon_loss", "horizon_weights"]

Method = Literal["hazards", "ipcw"]

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


def horizon_weights(
    horizons: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64], event: NDArray[np.bool_],
    curve: KaplanMeier,
) -> NDArray[np.float64]:  # fmt: skip
    """(labels, 2 horizons): weights of having had no event by start + horizon, and of having had one.

    With the probability G of staying under observation, an event at T by then weighs G(start-) / G(T-). Who was
    observed until then without one weighs G(start-) / G((start + horizon)-). Others weigh nothing: what became of them
    is not known. `start` is subtracted from no time, so G is on the scale of `end`.
    """
    reached = start[:, None] + horizons
    known = (end[:, None] >= reached) & ~(event[:, None] & (end[:, None] <= reached))
    died = event[:, None] & (end[:, None] <= reached)
    began = curve.before(start)[:, None]
    without = np.divide(began, curve.before(reached), out=np.zeros(known.shape), where=known)
    with_event = np.divide(began, curve.before(end)[:, None], out=np.zeros(died.shape), where=died)
    return np.concatenate([without, with_event], axis=1)


@dataclass(frozen=True)
class SurvivalLoss:
    """What `training.train` reads of a loss, for survival.

    Args:
        method: "hazards" or "ipcw".
        grid: the bins.
        start: of the bias (bins,), the logits of the Kaplan-Meier curve's hazards.
    """

    method: Method
    grid: Grid
    start: tuple[float, ...]

    @classmethod
    def fit(cls, method: Method, grid: Grid) -> Self:
        hazards = np.asarray(grid.cumulative)
        return cls(method, grid, tuple((hazards + np.log(-np.expm1(-hazards))).tolist()))

    @property
    def out_dim(self) -> int:
        return len(self.grid)

    def scaled(self, target: Any) -> Tensor:
        """float32 (labels, 2 bins): shares and weights as they are."""
        return torch.from_numpy(np.ascontiguousarray(target, np.float32))

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        loss = hazard_loss if self.method == "hazards" else horizon_loss
        return loss(prediction, target)

    def cumulative(self, output: NDArray[Any]) -> NDArray[np.float64]:
        """-log(1 - h_k) of logits (rows, bins)."""
        return np.logaddexp(0.0, output.astype(np.float64))

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "grid": self.grid.to_dict(), "start": list(self.start)}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Self:
        return cls(d["method"], Grid.from_dict(d["grid"]), tuple(d["start"]))
