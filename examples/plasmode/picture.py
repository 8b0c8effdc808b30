"""The terms beside their truth, and one person over time."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from examples import drawing
from examples.plasmode.data import FACTS, FEATURES, YEAR, Bools
from examples.plasmode.evaluation import QUANTILE, Recovery, Result
from examples.plasmode.training import Task
from examples.plasmode.truth import FUNCTION, IDLE, TERM
from examples.sequences import Floats
from rnam.plot import BLACK, BLUE, GREY

DOTS = 1500  # visits drawn in a panel
LEAST_GAP, LEAST_UNSEEN, LEAST_SEEN = 60, 2, 4  # of the person drawn: days, visits, visits
FIGURE = 13, 10  # inches
ARGUMENTS = {
    "hdl": "average of HDL so far (mg/dl)",
    "sbp": "fast minus slow average of SBP (mmHg)",
    "age": "age at the index date (years)",
}


def draw(task: Task, recovery: Recovery, result: Result) -> Figure:
    """The picture of a seed, at 150 dpi."""
    figure = drawing.figure(*FIGURE, layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.3), hspace=0.04)
    _draw_terms(upper.subplots(1, len(FUNCTION) + 1, sharey=True), task, recovery, result)
    upper.suptitle(
        f"What each term adds, at visits of {len(task.test.id):,} people not trained on (seed {result.seed})",
        x=0.01, ha="left", fontweight="bold",
    )  # fmt: skip
    person = choose(task, recovery)
    _draw_person(lower.subplots(3, 1, sharex=True), person, task, recovery)
    lower.suptitle(f"One of them over time: {_portrait(task.test.facts[person])}", x=0.01, ha="left", fontweight="bold")
    return figure


def _draw_terms(panels: NDArray[np.object_], task: Task, recovery: Recovery, result: Result) -> None:
    for axes, name in zip(panels, FUNCTION, strict=False):
        _draw_term(axes, name, task, recovery)
        axes.set_title(f"{FEATURES[TERM[name]].name}\ncorrelation {result.correlations[name]:.3f}", fontsize=11)
    _draw_never(panels[list(FUNCTION).index("sbp")], result)
    _draw_idle(panels[-1], task, recovery, result)
    panels[0].set_ylabel("contribution to the log-odds,\nfrom the average visit's", fontsize=11)
    panels[0].legend(loc="lower left", fontsize=10, framealpha=1, markerscale=2)


def _draw_term(axes: Axes, name: str, task: Task, recovery: Recovery) -> None:
    """Contribution and truth over what the truth is a function of."""
    term = TERM[name]
    places = task.test.is_visit() & recovery.observed[:, term]
    some = np.random.default_rng(0).permutation(np.flatnonzero(places))[:DOTS]
    all_of = task.truth_test.arguments[name], recovery.mean[:, term], recovery.truth[:, term]
    x, dots, line = (np.ravel(values)[some] for values in all_of)
    axes.scatter(x, dots, s=5, color=BLUE, alpha=0.35, linewidths=0, label="estimate", rasterized=True)
    order = x.argsort()
    axes.plot(x[order], line[order], color=BLACK, linewidth=1.8, label="truth")
    axes.set_xlabel(ARGUMENTS[name], fontsize=10.5)
    _tidy(axes)


def _draw_never(axes: Axes, result: Result) -> None:
    """A place of its own, right of the values, for people whose sbp was never measured."""
    low, high = axes.get_xlim()
    width = high - low
    at = high + 0.18 * width
    axes.plot([at], [result.missing["truth"]], marker="_", markersize=24, markeredgewidth=2, color=BLACK)
    axes.plot([at], [result.missing["estimate"]], marker="o", markersize=7, color=BLUE)
    axes.axvline(high, color="0.8", linewidth=0.8)
    axes.annotate(
        "never\nmeasured", (at, 0), xycoords=("data", "axes fraction"), xytext=(0, 5), textcoords="offset points",
        ha="center", fontsize=9.5, color=GREY,
    )  # fmt: skip
    axes.set_xlim(low, high + 0.36 * width)


def _draw_idle(axes: Axes, task: Task, recovery: Recovery, result: Result) -> None:
    """The middle 98% of what the terms that have no share add."""
    visits = task.test.is_visit()
    for place, name in enumerate(IDLE):
        low, middle, high = np.quantile(recovery.mean[:, TERM[name]][visits], [0.01, 0.5, 0.99])
        axes.plot([place, place], [low, high], color=BLUE, linewidth=9, alpha=0.5, solid_capstyle="butt")
        axes.plot([place], [middle], "o", color=BLUE, markersize=5)
    axes.axhline(0, color=BLACK, linewidth=1.8, zorder=0)
    axes.set_xticks(range(len(IDLE)), [FEATURES[TERM[name]].name.replace(" ", "\n") for name in IDLE], fontsize=9)
    axes.set_xlim(-0.6, len(IDLE) - 0.4)
    largest = 100 * max(result.idle.values())
    axes.set_title(f"Idle terms, truth 0\nat most {largest:.1g}% of the variance each", fontsize=11)
    axes.set_xlabel("bars: the middle 98% of visits", fontsize=10.5)
    _tidy(axes)


def choose(task: Task, recovery: Recovery) -> int:
    """The index of the person drawn.

    Of the people whose visits are all at least 60 days apart, and whose sbp was measured first at the third or later
    and at 4 or more: the one whose true contribution of sbp then moved most. Of all, if there is none.
    """
    sbp, seen = TERM["sbp"], recovery.observed[:, TERM["sbp"]] & task.test.is_visit()
    true = np.where(seen, recovery.truth[:, sbp], 0)
    moved = np.where(seen, true, -np.inf).max(1) - np.where(seen, true, np.inf).min(1)
    clear = _clear(task)
    return int(np.where(clear if clear.any() else seen.any(1), moved, -np.inf).argmax())


def _clear(task: Task) -> Bools:
    """(people,): whose visits can be told apart in the picture, with and without sbp."""
    people = task.test
    measured = np.isfinite(people.values[TERM["sbp"]])
    first = np.where(measured.any(1), measured.argmax(1), 0)
    gap = np.diff(people.day, axis=1)
    return (first >= LEAST_UNSEEN) & (measured.sum(1) >= LEAST_SEEN) & ~(gap < LEAST_GAP).any(1)


def _draw_person(rows: NDArray[np.object_], person: int, task: Task, recovery: Recovery) -> None:
    """A row for each of sbp and hdl, and one for the risk."""
    visits = int(task.test.length[person])
    day = task.test.day[person, :visits]
    year = (day - day[0]) / YEAR
    limits = []
    for axes, name in zip(rows, ("sbp", "hdl"), strict=False):
        _draw_contribution(axes, name, year, person, task, recovery)
        limits += axes.get_ylim()
    for axes in rows[:2]:
        axes.set_ylim(min(limits), max(limits))  # one scale, so that sizes compare
    rows[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize=10, frameon=False)
    odds = {"truth": task.truth_test.log_odds(), "estimate": recovery.odds}
    for (label, values), style, color in zip(odds.items(), ("-", "--"), (BLACK, BLUE), strict=True):
        risk = 1 / (1 + np.exp(-values[person, :visits]))
        rows[2].step(year, risk, style, where="post", color=color, linewidth=1.8, label=label)
    rows[2].set_ylim(0, 1)
    rows[2].set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    rows[2].set_ylabel("risk", fontsize=11)
    rows[2].set_xlabel("years since the first visit; a dot is a measurement, with its value", fontsize=11)
    _tidy(rows[2])


def _draw_contribution(axes: Axes, name: str, year: Floats, person: int, task: Task, recovery: Recovery) -> None:
    """What one lab adds over time, true and estimated, with the measured values on it."""
    term, visits = TERM[name], len(year)
    feature, measured = FEATURES[term], task.test.values[TERM[name], person, :visits]
    mean, sd, true = (a[person, term, :visits] for a in (recovery.mean, recovery.sd, recovery.truth))
    band = mean - QUANTILE * sd, mean + QUANTILE * sd
    label = f"refit spread: ±{QUANTILE} sd of {task.settings.members} refits"
    axes.fill_between(year, *band, step="post", color=BLUE, alpha=0.2, linewidth=0, label=label)
    axes.step(year, true, "-", where="post", color=BLACK, linewidth=1.8, label="truth")
    axes.step(year, mean, "--", where="post", color=BLUE, linewidth=1.8, label="estimate")
    for x, y, value in zip(year, true, measured, strict=True):
        if np.isfinite(value):
            axes.plot([x], [y], "o", color=BLACK, markersize=5)
            axes.annotate(
                f"{value:.0f}", (x, y), xytext=(6, 6), textcoords="offset points", fontsize=9.5,
                bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.6},
            )  # fmt: skip
    seen = np.flatnonzero(np.isfinite(measured))
    until = year[seen[0]] if len(seen) else year[-1]
    if until > year[0]:
        axes.axvspan(year[0], until, color="0.92", linewidth=0, zorder=-1)
        axes.annotate(
            "not measured yet", (year[0], 1), xycoords=("data", "axes fraction"), xytext=(5, -14),
            textcoords="offset points", fontsize=10, color=GREY,
        )  # fmt: skip
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.set_ylabel(f"{feature.column.upper()} ({feature.unit})\nlog-odds", fontsize=11)
    axes.margins(y=0.22)
    _tidy(axes)


def _portrait(facts: Floats) -> str:
    """The person's facts in words."""
    fact = dict(zip([feature.column for feature in FACTS], facts, strict=True))
    return f"{'man' if fact['male'] else 'woman'}, {fact['age']:.0f} at the index date"


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
