"""A year of the river, what each term adds, the response to 20 mm, and the thaws."""

from __future__ import annotations

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from examples import drawing
from examples.river.answers import AFTER, AROUND, COLD, DRY, RAIN, WET, Thaws, Told
from examples.river.data import Floats, Indices
from rnam.plot import BLACK, BLUE, GREY, ORANGE

FIGURE = 13, 10.5  # inches
DAYS = 365  # that are shown
GREEN, LIGHT = "#009E73", "#56B4E9"  # of Okabe and Ito; the light one is rain on days of frost
TERMS = {"rain": ("rain, given temperature", BLUE), "temperature": ("temperature", ORANGE),
         "range": ("daily range of temperature", GREEN)}  # fmt: skip
PREDICTED = ORANGE


def draw(told: Told) -> Figure:
    """The picture, at 150 dpi."""
    figure = drawing.figure(*FIGURE)
    upper = figure.add_gridspec(
        3, 1, height_ratios=(1, 2, 1.7), hspace=0.12, left=0.07, right=0.93, top=0.9, bottom=0.4
    )
    lower = figure.add_gridspec(1, 2, wspace=0.24, left=0.07, right=0.93, top=0.325, bottom=0.09)
    shown = np.flatnonzero(told.block == told.block.max())[:DAYS]
    weather, flow, parts = (figure.add_subplot(upper[n]) for n in range(3))
    _weather(weather, told.days.iloc[shown])
    _flow(flow, told, shown)
    _parts(parts, told, shown)
    for axes in (weather, flow, parts):
        axes.set_xlim(told.days["date"].iloc[shown[0]], told.days["date"].iloc[shown[-1]])
        axes.xaxis.set_major_locator(AutoDateLocator())
        axes.tick_params(axis="x", labelbottom=axes is parts)
    parts.xaxis.set_major_formatter(ConciseDateFormatter(parts.xaxis.get_major_locator()))
    _response(figure.add_subplot(lower[0]), told)
    _thaws(figure.add_subplot(lower[1]), told.thaws)
    first = told.days["date"].iloc[shown[0]]
    figure.text(0.07, 0.965, "The Fulda from weather alone", fontsize=17, fontweight="bold")
    figure.text(
        0.07, 0.937,
        f"A year from {first.day} {first:%B %Y} that the models did not see; they read rain and temperature, and never "
        "a past flow",
        fontsize=11.5, color=GREY,
    )  # fmt: skip
    figure.text(
        0.07, 0.012,
        "Contributions are centred over the year; that of rain is the sum of rain and of the pair of rain and "
        "temperature.\nNot to be read off: a storm in frost, or a drought longer than those of the record (18 days "
        "without rain).",
        fontsize=9.5, color=GREY,
    )  # fmt: skip
    return figure


def _plain(axes: Axes, *sides: str) -> None:
    axes.spines[["top", "right", *sides]].set_visible(False)


def _weather(axes: Axes, days: pandas.DataFrame) -> None:
    frost = days["temperature"] < 0
    for there, colour, label in ((~frost, BLUE, "rain"), (frost, LIGHT, "on days of frost")):
        axes.bar(days["date"][there], days["rain"][there], width=1.0, color=colour, label=label)
    axes.invert_yaxis()
    axes.set_ylabel("mm a day")
    warm = axes.twinx()
    warm.plot(days["date"], days["temperature"], color=ORANGE, linewidth=0.9)
    warm.axhline(0, color=ORANGE, linewidth=0.5, linestyle=":")
    warm.set_ylabel("°C", color=ORANGE)
    warm.tick_params(axis="y", colors=ORANGE)
    axes.legend(frameon=False, fontsize="small", loc="lower center", ncols=2)
    axes.spines["top"].set_visible(False)
    warm.spines["top"].set_visible(False)


def _flow(axes: Axes, told: Told, shown: Indices) -> None:
    days = told.days.iloc[shown]
    axes.plot(days["date"], days["flow"], color=BLACK, linewidth=1.5, label="measured")
    axes.plot(days["date"], np.exp(told.predicted[shown]), color=PREDICTED, linewidth=1.5, label="predicted")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_yticks([10, 20, 50, 100, 200])
    axes.set_ylabel("flow, m³/s")
    axes.legend(frameon=False, loc="upper right", ncols=2)
    _plain(axes)


def _parts(axes: Axes, told: Told, shown: Indices) -> None:
    date = told.days["date"].iloc[shown]
    axes.axhline(0, color=GREY, linewidth=0.6)
    for name, (label, colour) in TERMS.items():
        own = told.parts[name].to_numpy()[shown]
        axes.plot(date, own - own.mean(), color=colour, linewidth=1.4, label=label)
    axes.set_ylabel("adds to log flow")
    axes.set_ylim(top=1.35 * axes.get_ylim()[1])  # room for the legend
    axes.legend(frameon=False, loc="upper right", ncols=3)
    _plain(axes)


def _percent(log: Floats) -> Floats:
    return np.asarray(100 * np.expm1(log))


def _response(axes: Axes, told: Told) -> None:
    axes.axhline(0, color=GREY, linewidth=0.6)
    words = {"dry": f"less than {DRY:.0f} mm in the 30 days before", "wet": f"more than {WET:.0f} mm"}
    for place, (name, colour) in enumerate((("dry", ORANGE), ("wet", BLUE))):
        curves = _percent(told.response[name])
        low, middle, high = np.quantile(curves, [0.1, 0.5, 0.9], axis=0)
        lag = np.arange(curves.shape[1])
        axes.fill_between(lag, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(lag, middle, color=colour, linewidth=1.8, label=f"{name}: {words[name]}")
        slope = told.check.slope[0, place]
        error = 2 * told.check.standard_error[0, place]
        at, ends = float(np.mean(AFTER)), _percent(np.array([slope - error, slope, slope + error]))
        axes.errorbar(
            at, ends[1], [[ends[1] - ends[0]], [ends[2] - ends[1]]], fmt="o", color=colour, markeredgecolor=BLACK,
            ecolor=colour, capsize=4, markersize=7, zorder=3,
            label="from measured flow alone (2 standard errors)" if place else None,
        )  # fmt: skip
    axes.set(xlabel="days after", ylabel="flow, %", xlim=(-0.5, curves.shape[1] - 1))
    axes.set_title(f"{RAIN:.0f} mm more on one day, May to October", loc="left", fontsize=12)
    axes.legend(frameon=False, fontsize="small")
    _plain(axes)


def _thaws(axes: Axes, thaws: Thaws) -> None:
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.plot(AROUND, thaws.measured, color=BLACK, linewidth=2, label="measured")
    axes.plot(AROUND, thaws.predicted, color=PREDICTED, linewidth=2, label="predicted")
    axes.plot(AROUND, thaws.dry, color=BLUE, linestyle="--", label="predicted, had no rain fallen")
    axes.plot(AROUND, thaws.cold, color=GREY, linestyle="--", label=f"predicted, had it stayed at {COLD:.0f} °C")
    warm = axes.twinx()
    warm.plot(AROUND, thaws.temperature, color=GREY, linewidth=1, linestyle=":")
    warm.set_ylabel("°C (dotted)", color=GREY)
    warm.tick_params(axis="y", colors=GREY)
    axes.set(xlabel="days from the first mild day", ylabel="log flow, from the day before")
    axes.set_title(
        f"{len(thaws.days)} thaws after frost, with {thaws.rain:.0f} mm of rain in ten days",
        loc="left",
        fontsize=12,
    )
    for each in (axes, warm):  # room for the legend
        low, high = each.get_ylim()
        each.set_ylim(low, high + 0.35 * (high - low))
    axes.legend(frameon=False, fontsize="small", loc="upper left", ncols=2)
    axes.spines["top"].set_visible(False)
    warm.spines["top"].set_visible(False)
