"""The effect of a change of the input at one step on later predictions, from histories that occurred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from rnam import _checks
from rnam.explain import _arrays
from rnam.explain._arrays import Floats
from rnam.explain.evaluation import evaluate
from rnam.explain.names import labels

__all__ = ["LagResponse", "lag_response"]


@dataclass(frozen=True, eq=False)
class LagResponse:
    """The change of a prediction at lags 0 to L after its input changed.

    Args:
        term: the names of the terms.
        lag: int64 (lags + 1,), steps after the change.
        by_term: ([members,] histories, terms, lags + 1, out), what the contribution of each term changes by.
    """

    term: tuple[str, ...]
    lag: NDArray[np.int64]
    by_term: Floats

    @property
    def change(self) -> Floats:
        """([members,] histories, lags + 1, out): of the prediction before the link, the sum over all terms."""
        return np.asarray(self.by_term.sum(-3))

    @property
    def cumulative(self) -> Floats:
        """([members,] histories, lags + 1, out): the sum of `change` over the lags so far."""
        return np.asarray(self.change.cumsum(-2))


def lag_response(
    model: nn.Module,
    input: Tensor,
    changed: Tensor,
    *arguments: Any,
    at: ArrayLike | int,
    lags: int,
    names: Sequence[str] | None = None,
    **options: Any,
) -> LagResponse:
    """Predict from histories as they occurred and as they were changed, and read the difference lag by lag.

    The difference is of all terms, so that a pair which reads the changed column has its part. A lag-response function
    of a nonlinear model depends on the history that it starts from: give many that occurred, and average. It is the
    lag-response of distributed lag non-linear models (Gasparrini, Armstrong and Kenward, Statistics in Medicine 29,
    2010), whose cross-basis is a network here.

    Args:
        model: an additive model over time, evaluated as in `contributions`.
        input: the histories as the model reads them, (histories, seq, columns) of a model with columns, else
            (terms, histories, seq, in_dim). Their steps after the change stay in: they are what followed.
        changed: the same with the change, of the same shape, dtype and device.
        *arguments, **options: what else the model takes, the same for both, `mask=` and `times=` among them.
        at: the step of the change, counted from 0: an int, or one for each history (histories,).
        lags: L, the number of steps after it; the sequences must have them.
        names: of the terms, instead of those stored with the model.

    Raises:
        TypeError: input or changed is no tensor; at holds no whole numbers.
        ValueError: shapes differ; a history has fewer than `lags` steps after its change; a history is changed before
            that step.

    Example:
        >>> model = rnam.RNAM(terms=2, hidden_dim=4, out_dim=1, blocks=1, columns=[[0], [0, 1]])
        >>> input = torch.randn(3, 10, 2)  # histories, steps, columns
        >>> changed = input.clone()
        >>> changed[:, 4, 0] += 1.0
        >>> answer = rnam.explain.lag_response(model, input, changed, at=4, lags=5)
        >>> answer.change.shape, answer.by_term.shape
        ((3, 6, 1), (3, 2, 6, 1))
    """
    lags = _checks.whole_number("lags", lags)
    for name, value in (("input", input), ("changed", changed)):
        _checks.tensor(name, value)
    if changed.shape != input.shape:
        raise ValueError(f"changed must have the shape of input, {tuple(input.shape)}, got {tuple(changed.shape)}")
    by_columns = input.dim() == 3
    if input.dim() not in (3, 4):
        raise ValueError(
            "input must have shape (histories, seq, columns) or (terms, histories, seq, in_dim), got "
            f"{tuple(input.shape)}"
        )
    histories, seq = input.shape[-3], input.shape[-2]
    steps = _steps(at, histories)
    if histories and (steps.min() < 0 or steps.max() + lags >= seq):
        worst = int(steps.min() if steps.min() < 0 else steps.max())
        raise ValueError(f"at must leave {lags} steps of {seq} after it, got {worst}")
    differs = (input != changed) & ~(input.isnan() & changed.isnan())
    moved = np.asarray(_arrays.plain(differs if by_columns else differs.any(0))).any(-1)
    if (moved & (np.arange(seq) < steps[:, None])).any():
        early = int((moved & (np.arange(seq) < steps[:, None])).any(1).argmax())
        raise ValueError(f"changed must be input before the step at, got another input in history {early}")
    before, after = (
        _arrays.floats("contributions", evaluate(model, x, *arguments, over_time=True, each_member=True, **options))
        for x in (input, changed)
    )
    place = steps[:, None] + np.arange(lags + 1)
    difference = np.moveaxis(after - before, -4, -2)  # ([members,] terms, seq, histories, out)
    found = difference[..., place, np.arange(histories)[:, None], :]  # ([members,] terms, histories, lags + 1, out)
    known = labels(model, found.shape[-4], found.shape[-1], names)
    return LagResponse(known.names, np.arange(lags + 1), np.array(np.moveaxis(found, -4, -3), order="C"))


def _steps(at: ArrayLike | int, histories: int) -> NDArray[np.int64]:
    steps = np.asarray(at)
    if steps.dtype.kind not in "iu":
        raise TypeError(f"at must hold whole numbers, got {steps.dtype}")
    if steps.shape not in ((), (histories,)):
        raise ValueError(f"at must be an int or have shape ({histories},), one for each history, got {steps.shape}")
    return np.broadcast_to(steps, (histories,)).astype(np.int64)
