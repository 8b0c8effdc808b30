"""Arrays of visits, (..., seq), NaN where nothing was measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def carried_forward(values: Floats) -> Floats:
    """The last value measured so far, along the last dimension; NaN before the first."""
    steps = np.where(np.isfinite(values), np.arange(values.shape[-1]), -1)
    last = np.maximum.accumulate(steps, axis=-1)
    return np.where(last >= 0, np.take_along_axis(values, np.maximum(last, 0), axis=-1), np.nan)
