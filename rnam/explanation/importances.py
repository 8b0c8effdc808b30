"""How much each term moves the predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas

from rnam import plot
from rnam.explain._arrays import Floats
from rnam.explanation.results import Result, band
from rnam.explanation.sources import Source

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Importance", "importance"]


@dataclass(frozen=True, eq=False)
class Importance(Result):
    """The weighted mean of the absolute centred contribution of each term, in the units of y before the link.

    Args:
        term: (terms,), their names.
        scale: what is contributed to.
        importance: (terms,), the mean over members.
        low, high: (terms,), minus and plus one standard deviation over members; NaN for one model.
        share: (terms,), of the sum over terms.
        by_member: (members, terms).
    """

    term: tuple[str, ...]
    scale: str
    importance: Floats
    low: Floats
    high: Floats
    share: Floats
    by_member: Floats

    def frame(self) -> Any:
        """A row for each term, the most important first."""
        columns = {name: getattr(self, name) for name in ("term", "importance", "low", "high", "share")}
        frame = pandas.DataFrame(columns)
        return frame.sort_values("importance", ascending=False, kind="stable").reset_index(drop=True)

    def plot(self, ax: Axes | None = None) -> Axes:
        sd = None if len(self.by_member) < 2 else self.high - self.importance
        label = f"mean absolute contribution to {self.scale}"
        return plot.importance(self.importance, self.term, sd=sd, label=label, ax=ax)


def importance(source: Source) -> Importance:
    by_member = np.average(np.abs(source.contributions), axis=1, weights=source.weight)
    mean, low, high = band(by_member)
    reader = source.reader
    return Importance(reader.names, reader.scale_name, mean, low, high, mean / (mean.sum() or 1.0), by_member)
