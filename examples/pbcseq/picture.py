"""One patient, visit by visit: the risk, and which lab moved it."""

from __future__ import annotations

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from examples import drawing
from examples.pbcseq.data import HORIZON, TERMS, TIMING, YEAR, Floats, Term
from examples.pbcseq.evaluation import OutOfFold
from rnam.plot import GREY, diverging, timeline

TILE = 0.42  # years, the width of a visit's tile
LEAST_VISITS, LEAST_GAP = 7, 120  # days
FIGURE = 13, 9.5  # inches
ROWS = (*TERMS, TIMING)


def _clear(frame: pandas.DataFrame) -> pandas.Series:
    """By id: with at least 7 visits, all at least 120 days apart, so that they can be told apart in the picture."""
    day = frame.groupby("id")["day"]
    return (day.size() >= LEAST_VISITS) & ~(day.diff() < LEAST_GAP).groupby(frame["id"]).any()


def choose(frame: pandas.DataFrame, result: OutOfFold) -> int:
    """Of the people with at least 7 visits, all at least 120 days apart (so that they can be told apart in
    the picture), the id of the one whose risk rose most from the first visit to the last; of all, if there is none.
    """
    clear = _clear(frame)
    risk = pandas.Series(result.probability).groupby(frame["id"].to_numpy())
    rise = risk.last() - risk.first()
    return int((rise[clear] if clear.any() else rise).idxmax())


def draw(frame: pandas.DataFrame, result: OutOfFold, patient: int) -> Figure:
    """The picture of one person (an id), at 150 dpi."""
    own = (frame["id"] == patient).to_numpy()
    mine = frame[own]
    day, values = mine["day"].to_numpy(np.float64), mine[[term.column for term in ROWS]].to_numpy().T
    values[[term.static for term in ROWS], 1:] = np.nan  # recorded once
    contributions = result.contributions[own].to_numpy().T
    end = float(mine["futime"].iloc[-1]) / YEAR
    order = _order(contributions)
    largest = max(float(np.abs(contributions).max()), 1e-6)

    figure = drawing.figure(*FIGURE)
    grid = figure.add_gridspec(
        2, 2, height_ratios=(1, 3.1), width_ratios=(60, 1), hspace=0.06, wspace=0.03,
        left=0.2, right=0.92, top=0.89, bottom=0.115,
    )  # fmt: skip
    risk, rows = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
    right = max(end, day[-1] / YEAR) + 0.25
    for axes in (risk, rows):
        axes.set_xlim(-0.3, right)
        axes.spines[["top", "right"]].set_visible(False)
    _draw_risk(risk, day / YEAR, end, result.probability[own], result.baseline[own][0])
    _draw_end(risk, rows, end, bool(mine["event"].iloc[-1]))
    timeline(
        day / YEAR, contributions, values,
        [term.name for term in ROWS], [term.unit for term in ROWS],
        end=end, limit=largest, tile=TILE, order=order, number=lambda i, value: _number(ROWS[i], value),
        time_label="years since entry into the trial", colorbar=False, ax=rows,
    )  # fmt: skip

    bar = figure.colorbar(diverging(largest), cax=figure.add_subplot(grid[1, 1]))
    bar.set_label("contribution to the log-odds,\nfrom the average visit's", fontsize=11)
    bar.outline.set_visible(False)
    figure.text(
        0.02, 0.955, f"Patient {patient}: {_portrait(values[:, 0])}",
        fontsize=16, fontweight="bold",
    )  # fmt: skip
    figure.text(
        0.02, 0.922,
        f"Risk of death or transplant within two years ({HORIZON} days), at each visit from that visit and "
        "earlier ones, by models trained on other people",
        fontsize=11.5, color=GREY,
    )  # fmt: skip
    figure.text(
        0.02, 0.006,
        "Numbers: measured values, coloured by the term's contribution at that visit. Where there is no "
        "number, nothing was measured; the line carries the last contribution on." + _why(frame, result, patient),
        fontsize=10, color=GREY,
    )  # fmt: skip
    return figure


def _why(frame: pandas.DataFrame, result: OutOfFold, patient: int) -> str:
    """How the person was chosen, in words on a new line; an empty one if another way than by `choose`."""
    if patient != choose(frame, result):
        return "\n"
    whom = f"those with at least {LEAST_VISITS} visits that are all at least {LEAST_GAP} days apart"
    return f"\nChosen as the person whose predicted risk rose most, of {whom if _clear(frame).any() else 'all'}."


def _order(contributions: Floats) -> list[int]:
    """Labs and signs first, each group by how far its contribution moved or, if static, lies from 0."""
    moved = np.ptp(contributions, axis=1)
    size = np.abs(contributions).max(axis=1)
    key = [(term.static, -size[i] if term.static else -moved[i]) for i, term in enumerate(ROWS)]
    return sorted(range(len(ROWS)), key=key.__getitem__)


def _draw_risk(axes: Axes, year: Floats, end: float, probability: Floats, baseline: float) -> None:
    axes.axhline(baseline, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
    axes.annotate(
        "the average visit", (end, baseline), xytext=(-6, 3), textcoords="offset points", ha="right",
        fontsize=9.5, color=GREY,
    )  # fmt: skip
    axes.plot(year, probability, "o-", color="black", linewidth=1.8, markersize=6)
    for visit, (x, y) in enumerate(zip(year, probability, strict=True)):
        last = visit == len(year) - 1 > 0  # to the left, clear of the line at the end
        axes.annotate(
            f"{100 * y:.0f}%", (x, y), xytext=(-7, 5) if last else (0, 8), textcoords="offset points",
            ha="right" if last else "center", fontsize=10,
        )  # fmt: skip
    axes.set_ylim(0, 1.18)
    axes.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"], fontsize=10.5)
    axes.set_ylabel("risk", fontsize=12)
    axes.tick_params(axis="x", labelbottom=False)


def _draw_end(risk: Axes, rows: Axes, end: float, event: bool) -> None:
    for axes in (risk, rows):
        axes.axvline(end, color="black", linewidth=1.2, linestyle="-" if event else "--", zorder=0)
    risk.annotate(
        "death or transplant" if event else "end of observation", (end, 1), xytext=(0, 4), ha="right",
        xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=10.5,
    )  # fmt: skip


def _number(term: Term, value: float) -> str:
    if term.column == "edema" and value == 0.5:
        return "½"
    if term.column == "albumin":
        return f"{value:.2f}"
    return f"{value:.1f}" if term.column in ("bili", "protime", TIMING.column) else f"{value:.0f}"


def _portrait(first: Floats) -> str:
    """The person's static facts in words."""
    fact = {term.column: value for term, value in zip(ROWS, first, strict=True)}
    return (
        f"{'woman' if fact['sex'] else 'man'}, {fact['age']:.0f} at entry, "
        f"{'D-penicillamine' if fact['trt'] else 'placebo'}"
    )
