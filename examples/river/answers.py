"""The models' answers beside the measured flow: rain after dry and wet weeks, and thaws.

Dry and wet months, days of rain and thaws are found in the weather alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

import rnam
from examples.river.data import Block, Floats, Indices, rows
from examples.river.methods import Mean
from rnam import explain

RAIN = 20.0  # mm
DRY, WET, MONTH = 43.0, 83.0, 30  # mm in so many days before
ALONE = 5.0  # mm at most on the day before, and in the two days after
AFTER = (1, 2)  # days at which the river is high
HISTORY, LATER = 365, 40  # days of weather around a day of rain
MANY = 60  # days of rain for each condition
FROST, MILD, SOAKED = -2.0, 1.0, 15.0  # °C, °C, mm
COLD = -3.0  # °C, had it stayed cold
AROUND = np.arange(-7, 16)  # days from a thaw


def conditions(days: pandas.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """{"dry", "wet"}: days from May to October after little or much rain in the 30 days before, with hardly any on the
    day before and the two days after, so that the rain of the day can be told from that of others."""
    rain = days["rain"]
    before = rain.rolling(MONTH, min_periods=MONTH).sum().shift(1)
    alone = (rain.shift(1) < ALONE) & (rain.shift(-1) + rain.shift(-2) < ALONE) & days["date"].dt.month.between(5, 10)
    return {"dry": (alone & (before < DRY)).to_numpy(), "wet": (alone & (before > WET)).to_numpy()}


def check(days: pandas.DataFrame, predictions: Mapping[str, Floats], block: Indices) -> explain.ObservedCheck:
    """How far log flow rises for 20 mm, from the day before to the mean of the two days after: measured, and as each
    method predicts, (days,) with NaN where it does not. `block` (days,) is the one that a day is in, -1 for none."""
    flow = np.where(block >= 0, days["log_flow"], np.nan)
    return explain.observed_check(
        flow, predictions, days["rain"].to_numpy(), conditions(days), before=1, after=AFTER, size=RAIN, groups=block
    )


def response(
    days: pandas.DataFrame, panel: rnam.Panel, blocks: Sequence[Block], models: Sequence[Mean]
) -> dict[str, Floats]:
    """{"dry", "wet"}: (days of rain, 40), the change of log flow at lags of 0 to 40 days, had it rained 20 mm more on a
    day that occurred, all other weather being as it was. Each day is predicted by models that did not see its block."""
    return {
        name: np.concatenate(
            [_added(days, panel, _some(held, block), own) for block, own in zip(blocks, models, strict=True)]
        )
        for name, held in conditions(days).items()
    }


def _some(held: NDArray[np.bool_], block: Block) -> Indices:
    """Some of the days of a block at which a condition holds, evenly over it."""
    known = rows(block.test)
    found = known[held[known] & (known >= HISTORY) & (known + LATER < len(held))]
    return found[:: max(1, len(found) * 5 // MANY)]


def _added(days: pandas.DataFrame, panel: rnam.Panel, at: Indices, model: Mean) -> Floats:
    def more(part: pandas.DataFrame, day: int) -> None:
        part.loc[day, "rain"] += RAIN

    first, second = (_had(days, panel, at, model, change, LATER) for change in (None, more))
    return (second - first)[:, HISTORY:]


Change = Callable[[pandas.DataFrame, int], None]


def _had(
    days: pandas.DataFrame, panel: rnam.Panel, at: Indices, model: Mean, change: Change | None, later: int
) -> Floats:
    """(at, HISTORY + later): predictions of the days around each of `at`, had the weather been another one."""
    parts = []
    for day in at:
        part = days.loc[day - HISTORY : day + later - 1].assign(river=str(day))
        if change is not None:
            change(part, day)
        parts.append(part)
    if not parts:
        return np.zeros((0, HISTORY + later))
    told = model.predict(rnam.Panel.from_frame(pandas.concat(parts), like=panel))
    return told.reshape(len(at), HISTORY + later)


@dataclass(frozen=True)
class Thaws:
    """Means over thaws on the days AROUND their first mild day, less those of the day before it.

    days: of the thaws. measured, predicted: log flow. cold, dry: as predicted, had it stayed at -3 °C or had no rain
    fallen from the first mild day on. temperature: °C, as it is. rain: mm in the ten days from the day before on.
    """

    days: Indices
    measured: Floats
    predicted: Floats
    cold: Floats
    dry: Floats
    temperature: Floats
    rain: float


def thaws(days: pandas.DataFrame, known: Indices) -> Indices:
    """The first mild days after a week of frost, with less than 15 mm from the day before to five days after, of which
    all days AROUND are known."""
    temperature, rain = days["temperature"], days["rain"]
    cold = temperature.rolling(7).mean().shift(1) < FROST
    mild = (temperature >= 0) & (temperature.rolling(5).mean().shift(-4) > MILD)
    dry = rain.rolling(7).sum().shift(-5) < SOAKED
    found: list[int] = []
    whole = np.isin(np.arange(len(days))[:, None] + AROUND, known).all(1)
    for day in np.flatnonzero(cold & mild & dry & whole):
        if not found or day - found[-1] > len(AROUND):
            found.append(int(day))
    return np.array(found, np.int64)


def around(
    days: pandas.DataFrame,
    panel: rnam.Panel,
    blocks: Sequence[Block],
    models: Sequence[Mean],
    at: Indices,
    predicted: Floats,
) -> Thaws:
    """`at` as `thaws` gives it, `predicted` (days,); each thaw is predicted by models that did not see its block."""

    def cold(part: pandas.DataFrame, day: int) -> None:
        part.loc[day:, "temperature"] = COLD

    def dry(part: pandas.DataFrame, day: int) -> None:
        part.loc[day:, "rain"] = 0.0

    def moved(values: Floats) -> Floats:
        """(thaws, AROUND) -> (AROUND,)"""
        return np.asarray((values - values[:, AROUND == -1]).mean(0))

    def had(change: Change) -> Floats:
        own = [at[np.isin(at, rows(block.test))] for block in blocks]
        told = [
            _had(days, panel, some, model, change, AROUND[-1] + 1) for some, model in zip(own, models, strict=True)
        ]  # fmt: skip
        return moved(np.concatenate(told)[:, -len(AROUND) :])

    places = at[:, None] + AROUND
    return Thaws(
        at, moved(days["log_flow"].to_numpy()[places]), moved(predicted[places]), had(cold), had(dry),
        days["temperature"].to_numpy()[places].mean(0),
        float(days["rain"].to_numpy()[at[:, None] + np.arange(-1, 9)].sum(1).mean()),
    )  # fmt: skip


@dataclass(frozen=True)
class Told:
    """All of this, of one seed.

    days: the table. predicted (days,): of the RNAM, for days that it did not see, NaN elsewhere. parts (days, terms):
    the contributions that sum to it with a constant. block (days,): the one that a day is in, -1 for none.
    """

    days: pandas.DataFrame
    predicted: Floats
    parts: pandas.DataFrame
    block: Indices
    check: explain.ObservedCheck
    response: dict[str, Floats]
    thaws: Thaws

    def as_json(self) -> dict[str, Any]:
        thaws = self.thaws
        moved = {"measured": thaws.measured, "predicted": thaws.predicted, "cold": thaws.cold, "dry": thaws.dry}
        return {
            "check": self.check.frame().to_dict("records"),
            "response": {name: np.median(own, axis=0).tolist() for name, own in self.response.items()},
            "thaws": {
                "first mild days": [str(self.days["date"][day].date()) for day in thaws.days],
                "rain of ten days": thaws.rain,
                "days from it": AROUND.tolist(),
                **{name: own.tolist() for name, own in moved.items()},
            },
        }


def tell(
    days: pandas.DataFrame,
    panel: rnam.Panel,
    blocks: Sequence[Block],
    predictions: Mapping[str, Sequence[Floats]],
    models: Sequence[Mean],
    method: str,
) -> Told:
    """Args: predictions by method and block; the models of each block, which are called `method` there."""
    number = np.full(len(days), -1)
    every = {name: np.full(len(days), np.nan) for name in predictions}
    parts = []
    for place, (block, model) in enumerate(zip(blocks, models, strict=True)):
        known = rows(block.test)
        number[known] = place
        for name, own in predictions.items():
            every[name][known] = own[place]
        parts.append(model.contributions(block.test).reset_index(drop=True).loc[known])
    whole = pandas.concat(parts).reindex(range(len(days)))
    at = thaws(days, np.flatnonzero(number >= 0))
    return Told(
        days, every[method], whole, number, check(days, every, number), response(days, panel, blocks, models),
        around(days, panel, blocks, models, at, every[method]),
    )  # fmt: skip
