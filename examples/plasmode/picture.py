"""The terms beside their truth, and one person over time."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from examples.plasmode.data import FEATURES, LABS, YEAR
from examples.plasmode.evaluation import QUANTILE, Recovery, Result
from examples.plasmode.training import Task
from examples.plasmode.truth import FUNCTION, IDLE, TERM
from examples.sequences import Floats
from rnam.plot import GREY

BLUE, BLACK = "#0072B2", "black"  # told apart by lightness as well
DOTS = 1500  # visits drawn in a panel
LEAST_VISITS, LEAST_NEVER = 8, 2  # of the person drawn
FIGURE = 13, 9.5  # inches
ARGUMENTS = {
    "hdl": "average of HDL so far (mg/dl)",
    "sbp": "fast minus slow average of SBP (mmHg)",
    "age": "age at the index date (years)",
}
BELOW = "contribution to the log-odds, centred"


def draw(task: Task, recovery: Recovery, result: Result) -> Figure:
    """The picture of a seed, at 150 dpi."""
    figure = Figure(figsize=FIGURE, dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.25), hspace=0.03)
    panels = upper.subplots(1, 4, sharey=True)
    for axes, name in zip(panels, FUNCTION, strict=False):
        _draw_term(axes, name, task, recovery, result)
    _draw_idle(panels[3], task, recovery, result)
    panels[0].set_ylabel(BELOW)
    panels[0].legend(loc="lower left", fontsize=9, framealpha=1, markerscale=2)
    upper.suptitle(
        f"What each term adds, at visits of {len(task.test.id):,} people the models were not trained on (seed {result.seed})",
        x=0.01, ha="left", fontweight="bold",
    )  # fmt: skip
    person = choose(task, recovery)
    _draw_person(lower.subplots(3, 1, sharex=True), person, task, recovery)
    lower.suptitle(
        f"One of them over time: {FEATURES[TERM['age']].name.lower()} {task.test.facts[person, 0]:.0f} years",
        x=0.01, ha="left", fontweight="bold",
    )  # fmt: skip
    return figure


def _draw_term(axes: Axes, name: str, task: Task, recovery: Recovery, result: Result) -> None:
    """Contribution and truth over what the truth is a function of."""
    term = TERM[name]
    places = task.test.is_visit() & recovery.observed[:, term]
    x, dots, line = task.truth_test.arguments[name][places], recovery.mean[:, term][places], recovery.truth[:, term][places]
    some = np.random.default_rng(0).permutation(len(x))[:DOTS]
    axes.scatter(x[some], dots[some], s=5, color=BLUE, alpha=0.35, linewidths=0, label="estimate", rasterized=True)
    order = x.argsort()
    axes.plot(x[order], line[order], color=BLACK, linewidth=1.8, label="truth")
    axes.set_title(f"{FEATURES[term].name}\ncorrelation {result.correlations[name]:.3f}", fontsize=11)
    if name == "sbp":
        _draw_never(axes, x, result)
    axes.set_xlabel(ARGUMENTS[name])
    _tidy(axes)


def _draw_never(axes: Axes, x: Floats, result: Result) -> None:
    """A place of its own, right of the values, for people whose sbp was never measured."""
    low, high = np.quantile(x, [0.001, 0.999])
    at = high + 0.25 * (high - low)
    axes.plot([at], [result.missing["truth"]], marker="_", markersize=22, markeredgewidth=2, color=BLACK)
    axes.plot([at], [result.missing["estimate"]], marker="D", markersize=6, color=BLUE)
    axes.axvline(high + 0.09 * (high - low), color="0.8", linewidth=0.8)
    axes.annotate(
        "never\nmeasured", (at, 0), xycoords=("data", "axes fraction"), xytext=(0, 4), textcoords="offset points",
        ha="center", fontsize=8.5, color=GREY,
    )  # fmt: skip
    axes.set_xlim(low - 0.05 * (high - low), at + 0.16 * (high - low))


def _draw_idle(axes: Axes, task: Task, recovery: Recovery, result: Result) -> None:
    """The middle 98% of what the terms that have no share add."""
    visits = task.test.is_visit()
    for place, name in enumerate(IDLE):
        low, middle, high = np.quantile(recovery.mean[:, TERM[name]][visits], [0.01, 0.5, 0.99])
        axes.plot([place, place], [low, high], color=BLUE, linewidth=7, alpha=0.5, solid_capstyle="butt")
        axes.plot([place], [middle], "o", color=BLUE, markersize=4)
    axes.axhline(0, color=BLACK, linewidth=1.8, zorder=0)
    axes.set_xticks(range(len(IDLE)), [FEATURES[TERM[name]].name.replace(" ", "\n") for name in IDLE], fontsize=8.5)
    axes.set_xlim(-0.6, len(IDLE) - 0.4)
    largest = 100 * max(result.idle.values())
    axes.set_title(f"Idle terms, truth 0\nat most {largest:.2g}% of the variance each", fontsize=11)
    axes.set_xlabel("the middle 98% of visits")
    _tidy(axes)


def choose(task: Task, recovery: Recovery) -> int:
    """Of the people with at least 8 visits, sbp measured first at the third or later, the one whose true contribution of
    sbp differs most between its visits afterwards; of all, where there is none."""
    sbp, length = TERM["sbp"], task.test.length
    seen = recovery.observed[:, sbp]
    first = np.where(seen.any(1), seen.argmax(1), seen.shape[1])
    clear = (length >= LEAST_VISITS) & (first >= LEAST_NEVER) & (first < length)
    true = np.where(seen & task.test.is_visit(), recovery.truth[:, sbp], 0)
    moved = true.max(1) - true.min(1)
    return int(np.where(clear if clear.any() else True, moved, -np.inf).argmax())


def _draw_person(rows: NDArray, person: int, task: Task, recovery: Recovery) -> None:
    visits = int(task.test.length[person])
    year = (task.test.day[person, :visits] - task.test.day[person, 0]) / YEAR
    for axes, name in zip(rows, ("sbp", "hdl"), strict=False):
        term = TERM[name]
        mean, sd, true = (a[person, term, :visits] for a in (recovery.mean, recovery.sd, recovery.truth))
        axes.fill_between(
            year, mean - QUANTILE * sd, mean + QUANTILE * sd, step="post", color=BLUE, alpha=0.2, linewidth=0,
            label="refit spread, ±1.645 sd of 10 refits".replace("10", str(task.settings.members)),
        )  # fmt: skip
        axes.step(year, mean, where="post", color=BLUE, linewidth=1.8, linestyle="--", label="estimate")
        axes.step(year, true, where="post", color=BLACK, linewidth=1.8, label="truth")
        for x, y, value in zip(year, true, task.test.values[LABS.index(FEATURES[term]), person, :visits], strict=True):
            if np.isfinite(value):
                axes.plot([x], [y], "o", color=BLACK, markersize=4)
                axes.annotate(f"{value:.0f}", (x, y), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8.5)
        never = np.flatnonzero(recovery.observed[person, term, :visits])
        end = year[never[0]] if len(never) else year[-1]
        if end > 0:
            axes.axvspan(year[0], end, color="0.93", zorder=0)
            axes.annotate("never measured yet", (year[0], 1), xycoords=("data", "axes fraction"), xytext=(4, -12), textcoords="offset points", fontsize=9, color=GREY)
        axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        axes.set_ylabel(f"{FEATURES[term].column.upper()}\nlog-odds")
        axes.margins(y=0.25)
        _tidy(axes)
    rows[0].legend(loc="upper right", ncols=3, fontsize=9, framealpha=1)
    odds = {"estimate": recovery.odds, "truth": task.truth_test.log_odds()}
    for (label, values), style, color in zip(odds.items(), ("--", "-"), (BLUE, BLACK), strict=True):
        rows[2].step(year, 1 / (1 + np.exp(-values[person, :visits])), where="post", linestyle=style, color=color, linewidth=1.8, label=label)
    rows[2].set_ylim(0, 1)
    rows[2].set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    rows[2].set_ylabel("risk")
    rows[2].set_xlabel("years since the first visit; numbers are the measured values (SBP in mmHg, HDL in mg/dl)")
    _tidy(rows[2])


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
