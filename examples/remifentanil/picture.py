"""Three people: measured and predicted concentrations with a 90% band, and the rate of the infusion below."""

from __future__ import annotations

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from examples import drawing
from examples.remifentanil.data import TARGET
from rnam.plot import BLACK, BLUE, GREY, ORANGE

FIGURE = 13, 6.2  # inches
PLACES = {"predicted better than nine of ten": 0.1, "in the middle": 0.5, "predicted worse than nine of ten": 0.9}


def chosen(rows: pandas.DataFrame) -> list[int]:
    """The people whose own error stands at these places among all."""
    errors = ((rows["predicted"] - rows[TARGET]) ** 2).groupby(rows["person"]).mean().sort_values(kind="stable")
    return [int(errors.index[round(place * (len(errors) - 1))]) for place in PLACES.values()]


def draw(table: pandas.DataFrame, rows: pandas.DataFrame, coverage: float) -> Figure:
    """The picture, at 150 dpi.

    Args: the records; the measured ones with `predicted`, `lower` and `upper`; the coverage of the band by person.
    """
    figure = drawing.figure(*FIGURE)
    grid = figure.add_gridspec(
        2, 3, height_ratios=(3, 1), hspace=0.1, wspace=0.08, left=0.07, right=0.98, top=0.8, bottom=0.14
    )
    above: list[Axes] = []
    below: list[Axes] = []
    for n, (person, place) in enumerate(zip(chosen(rows), PLACES, strict=True)):
        top = figure.add_subplot(grid[0, n], sharey=above[0] if above else None)
        under = figure.add_subplot(grid[1, n], sharex=top, sharey=below[0] if below else None)
        above.append(top)
        below.append(under)
        _concentrations(top, rows[rows["person"] == person])
        _rate(under, table[table["person"] == person])
        own = table[table["person"] == person].iloc[0]
        sex = "woman" if own["female"] else "man"
        title = f"Person {person}, a {sex} of {own['age']:.0f} years, {own['lean_mass']:.0f} kg of lean mass\n{place}"
        top.set_title(title, fontsize=10)
        top.tick_params(labelbottom=False, labelleft=not n)
        under.tick_params(labelleft=not n)
        under.set_xlabel("minutes")
    above[0].set_ylabel("concentration, ng/ml")
    above[0].legend(frameon=False, loc="upper right")
    below[0].set_ylabel("rate, µg/min")
    below[0].set_ylim(bottom=0)  # at the end, or the axes that share it keep the scale of the first
    figure.text(0.07, 0.94, "Remifentanil at irregular minutes", fontsize=17, fontweight="bold")
    figure.text(
        0.07, 0.89,
        "People whom the model did not see; it reads the rate, age, lean body mass and sex, and never a concentration",
        fontsize=11.5, color=GREY,
    )  # fmt: skip
    figure.text(
        0.07, 0.02,
        f"The band is split-conformal at 90%, from the people of the other folds; it holds {coverage:.0%} of the "
        "concentrations of a person, in the mean over people.\nPeople are chosen by the place of their own error.",
        fontsize=9.5, color=GREY,
    )  # fmt: skip
    return figure


def _concentrations(axes: Axes, rows: pandas.DataFrame) -> None:
    axes.fill_between(
        rows["minute"], np.exp(rows["lower"]), np.exp(rows["upper"]), color=ORANGE, alpha=0.2, linewidth=0
    )
    axes.plot(rows["minute"], np.exp(rows["predicted"]), color=ORANGE, label="predicted, with its 90% band")
    axes.plot(rows["minute"], np.exp(rows[TARGET]), "o", color=BLACK, markersize=3.5, label="measured")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.spines[["top", "right"]].set_visible(False)


def _rate(axes: Axes, records: pandas.DataFrame) -> None:
    axes.fill_between(records["minute"], records["rate"], step="pre", color=BLUE, alpha=0.6, linewidth=0)
    axes.spines[["top", "right"]].set_visible(False)
