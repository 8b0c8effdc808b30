"""The time scales of a panel, read off the gaps between its visits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rnam.panel import Panel

__all__ = ["Gaps"]

NEAR = 0.05  # a gap is regular that differs from the median by at most this share of it
SHARE = 0.5  # of the median span: the longest time scale at which memory starts


class Gaps(NamedTuple):
    """The time and the steps between visits.

    Args:
        unit: the median gap, in units of the panel's times; 1 where no id has two visits.
        regular: whether at least 95% of the gaps are that one, to 5%.
        spans: the median span from the first visit of an id to its last, in such gaps.
        steps: the median number of visits.
    """

    unit: float
    regular: bool
    spans: float
    steps: float

    @classmethod
    def of(cls, panel: Panel) -> Gaps:
        """Those of the ids that have two visits or more.

        Example:
            >>> X = np.random.default_rng(0).normal(size=(5, 10, 1))
            >>> Gaps.of(rnam.Panel.from_array(X, 7 * np.arange(10)))
            Gaps(unit=7.0, regular=True, spans=9.0, steps=10.0)
        """
        times, offsets, lengths = panel.times, panel.offsets, panel.lengths
        several = lengths > 1
        if not several.any():
            return cls(1.0, True, 0.0, 1.0)
        inside = np.ones(len(times) - 1, np.bool_)
        inside[offsets[1:-1] - 1] = False
        gaps = np.diff(times)[inside]
        unit = float(np.median(gaps))
        regular = bool((np.abs(gaps - unit) <= NEAR * unit).mean() >= 1 - NEAR)
        spans = (times[offsets[1:] - 1] - times[offsets[:-1]])[several]
        return cls(unit, regular, float(np.median(spans)) / unit, float(np.median(lengths[several])))

    def timescales(self, continuous: bool) -> tuple[float, float] | None:
        """The time scales at which memory starts, from one gap or step to half of the median sequence; None where that
        is no longer than one."""
        longest = SHARE * (self.spans if continuous else self.steps)
        return (1.0, longest) if longest > 1 else None
