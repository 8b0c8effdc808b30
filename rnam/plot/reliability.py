"""Are the probabilities right?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from rnam import explain
from rnam.plot import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["calibration"]


def calibration(
    probability: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    sample_weight: ArrayLike | Tensor | None = None,
    *,
    groups: int = 10,
    label: str = "RNAM",
    ax: Axes | None = None,
) -> Axes:
    """Draw the rate of the outcome against the predicted probability, in groups of equal weight.

    Called again on the same axes, another model is added.

    Args:
        probability, y, sample_weight, groups: as in `rnam.explain.calibration_curve`.
        label: what the model is called in the legend; observed / expected and Brier skill follow it.
        ax: axes to draw on; new ones by default.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is missing.
        TypeError, ValueError: as in `rnam.explain.calibration_curve` and `brier_skill`.
    """
    curve = explain.calibration_curve(probability, y, sample_weight, groups=groups)
    ratio = explain.observed_expected(probability, y, sample_weight)
    skill = explain.brier_skill(probability, y, sample_weight)
    ax = _style.axes(ax, (5.0, 5.0))
    before = sum(line.get_gid() == "calibration" for line in ax.lines)
    if not before:
        ax.plot([0, 1], [0, 1], color=_style.GREY, linewidth=1, linestyle=":", label="right")
    end = max(curve.predicted.max(), curve.observed.max(), *(ax.get_xlim()[1:] if before else ()))
    ax.plot(
        curve.predicted, curve.observed, color=_style.SERIES[before % 5], linestyle=_style.STYLES[before % 5],
        marker="osD^v"[before % 5], markersize=5, gid="calibration",
        label=f"{label}: observed / expected {ratio:.2f}, Brier skill {skill:.2f}",
    )  # fmt: skip
    end = min(1.02, float(np.ceil(end * 10 + 0.2)) / 10)
    ax.set(xlim=(0, end), ylim=(0, end), aspect="equal")
    ax.set_xlabel("predicted probability, mean of the group")
    ax.set_ylabel("observed rate")
    # above: curves of timid models fill the upper left
    ax.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1))
    return ax
