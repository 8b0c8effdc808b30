"""The scores of every method and seed as dots, their means as lines."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from examples import drawing
from examples.report import Found
from rnam.plot import BLUE, GREY, ORANGE

PANELS = {"auc": ("AUC", "right is better"), "calibration_slope": ("calibration slope", "1 is right")}


def draw(found: Found) -> Figure:
    """A panel for AUC and one for the calibration slope; the methods from the best mean AUC down, at 150 dpi."""
    order = sorted(found, key=lambda name: float(np.mean([row["auc"] for row in found[name]])))
    figure = drawing.figure(11, 1.4 + 0.42 * len(order), layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (score, (title, hint)) in zip(panels, PANELS.items(), strict=True):
        for place, name in enumerate(order):
            values = [row[score] for row in found[name]]
            own = name.startswith("RNAM")
            colour, marker = (BLUE, "o") if own else (ORANGE, "s")
            axes.plot(values, [place] * len(values), marker, color=colour, markersize=7, alpha=0.7, linestyle="none")
            axes.plot([np.mean(values)] * 2, [place - 0.3, place + 0.3], color="black", linewidth=2)
        axes.set_title(f"{title}, {hint}", fontsize=11)
        axes.set_yticks(range(len(order)), order, fontsize=11)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[1].axvline(1, color=GREY, linewidth=1, linestyle=":")
    figure.supxlabel("a dot for each seed, the line is their mean; people not trained on", fontsize=10, color=GREY)
    return figure
