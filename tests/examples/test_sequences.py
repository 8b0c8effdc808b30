"""Values are carried forward, never back."""

from __future__ import annotations

import numpy as np

from examples.sequences import carried_forward


def test_carried_forward():
    nan = np.nan
    values = np.array([[nan, 1, nan, nan, 2], [nan] * 5])
    np.testing.assert_array_equal(carried_forward(values), [[nan, 1, 1, 1, 2], [nan] * 5])
