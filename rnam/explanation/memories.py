"""How long each term remembers, and what its memory is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
import torch
from torch import Tensor

from rnam import _checks, explain, plot
from rnam.explain._arrays import Floats
from rnam.explanation.labelled import targets
from rnam.explanation.results import Result, band
from rnam.explanation.sources import Source

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["TermMemory", "memory"]

SHARES = (0.1, 0.5, 0.9)


@dataclass(frozen=True, eq=False)
class TermMemory(Result):
    """The memory of each recurrent term and of the timing term: `rnam.explain.memory` on the panel.

    Args:
        term: (terms,)
        unit: of time: that of the panel's times where time is continuous, else "visits".
        timescale: (terms, 3), the 10%, 50% and 90% quantile over the channels of how long a state lasts, the mean over
            members.
        change: (terms,), the root mean square of what the contribution changes by when the term sees its last value
            only, in the units of y before the link.
        loss: of the model, the mean over members; NaN without labels.
        gain: (terms,), by how much the loss rises when the term sees its last value only: the gain of its memory to
            this model; NaN without labels.
        low, high: (terms,), of the gain, minus and plus one standard deviation over members; NaN for one model.
    """

    term: tuple[str, ...]
    unit: str
    timescale: Floats
    change: Floats
    loss: float
    gain: Floats
    low: Floats
    high: Floats

    def frame(self) -> Any:
        """A row for each term."""
        scales = {f"timescale_{share:.0%}": self.timescale[:, n] for n, share in enumerate(SHARES)}
        parts = {name: getattr(self, name) for name in ("change", "gain", "low", "high")}
        return pandas.DataFrame({"term": self.term, **scales, **parts})

    def plot(self, ax: Axes | None = None) -> Axes:
        """The gain of memory of each term, or without labels the change of its contribution."""
        if np.isnan(self.gain).all():
            return plot.ranges(self.change, self.term, label="change of the contribution without memory", ax=ax)
        label = "gain of memory: rise of the loss without it"
        return plot.ranges(self.gain, self.term, low=self.low, high=self.high, label=label, ax=ax)


def memory(source: Source, sample: int, seed: int) -> TermMemory:
    """`Explanation.memory`."""
    reader, inputs = source.reader, source.inputs
    if inputs.flat:
        raise ValueError("the model must be recurrent to have a memory, got one of single visits")
    sample = _checks.positive_int("sample", sample)
    positions = np.arange(inputs.sequences)
    if len(positions) > sample:
        positions = np.sort(np.random.default_rng(seed).choice(len(positions), sample, replace=False))
    batch = inputs.batch(positions, reader.device)
    over_time = reader.at == "visit"
    known = _loss(source, positions)
    given: dict[str, Any] = {**batch, "over_time": over_time, "names": reader.names}
    if known is not None:
        given |= {"loss": known[0], "target": known[1]}
    found = explain.memory(reader.model, given.pop("input"), **given)
    several = reader.members > 1
    scales = found.quantiles(SHARES)  # ([members,] terms, blocks, shares)
    scales = scales.mean(0) if several else scales
    sizes = np.abs(np.asarray(reader.estimator.loss_.gain) * reader.weights) * found.change
    sizes = np.sqrt((sizes**2).sum(-1))
    none = np.full(len(found.term), np.nan)
    loss, gain, low, high = np.nan, none, none, none
    if found.loss is not None and found.cut_loss is not None:
        rise = np.atleast_2d(found.cut_loss) - np.atleast_1d(found.loss)[:, None]
        loss, (gain, low, high) = float(np.mean(found.loss)), band(rise)
    continuous = bool(getattr(reader.model, "continuous", False))
    return TermMemory(
        found.term, (source.panel.time_unit or "units of time") if continuous else "visits", scales.max(1),
        sizes.mean(0) if several else sizes, loss, gain, low, high,
    )  # fmt: skip


def _loss(source: Source, positions: Any) -> tuple[Any, Tensor] | None:
    """The loss of the fit at the labels of these sequences, as `rnam.explain.memory` calls it; None without labels."""
    found = targets(source)
    if found is None:
        return None
    inputs, reader = source.inputs, source.reader
    place = np.full(inputs.sequences, -1, np.int64)
    place[positions] = np.arange(len(positions))
    rows = np.flatnonzero(found.labelled)
    owner = source.panel.owners[rows] if reader.at == "visit" else rows
    inside = (place[owner] >= 0) & (source.weight[rows] > 0)
    rows, owner = rows[inside], owner[inside]
    if not len(rows):
        return None
    loss = reader.estimator.loss_
    target = loss.scaled(found.values[rows]).to(reader.device)
    weight = torch.from_numpy(source.weight[rows] / source.weight[rows].sum()).to(reader.device)
    row = torch.from_numpy(place[owner])
    step = torch.from_numpy(rows - inputs.offsets[owner]) if reader.at == "visit" else None

    def criterion(prediction: Tensor, given: Tensor) -> Tensor:
        chosen = prediction[row] if step is None else prediction[row, step]
        weighed: Tensor = (loss(chosen, given).double() * weight).sum()
        return weighed

    return criterion, target
