"""Daily flow of the Fulda and the weather of its basin, 1979 to 1988: from spotpy's wheel, which is not imported."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas
from numpy.typing import NDArray

import rnam

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

WEATHER = ("rain", "temperature", "range")
PAIR = ("rain", "temperature")
SPIN_UP = 60  # days at the beginning whose flow is not used: no weather before them is known
PURGE = 30.0  # days around a block that is held out, whose flow no model learns from
FORECAST = "1985-12-31"  # the last day of training where the years after it are predicted
INNER = 3  # folds of a training part, for choices


def load() -> pandas.DataFrame:
    """A row for each of 3,653 days: date; rain (mm), temperature (mean, °C) and its range (°C); flow (m³/s) and
    log_flow, which is NaN in the first 60 days.

    Raises:
        ImportError: spotpy is not installed.
    """
    spec = find_spec("spotpy")
    if spec is None or spec.origin is None:
        raise ImportError("No module named 'spotpy'", name="spotpy")
    file = Path(spec.origin).parent / "examples" / "cmf_data" / "fulda_climate.csv"
    table = pandas.read_csv(file, skiprows=[1])  # the second line has the units
    flow = table["Q"].to_numpy(np.float64)
    days = pandas.DataFrame(
        {
            "river": "Fulda",
            "date": pandas.to_datetime(table["date"], format="%d.%m.%Y"),
            "rain": table["Prec"],
            "temperature": table["tmean"],
            "range": table["tmax"] - table["tmin"],
            "flow": flow,
            "log_flow": np.log(flow),
        }
    )
    days.loc[: SPIN_UP - 1, "log_flow"] = np.nan
    return days


def as_panel(days: pandas.DataFrame) -> rnam.Panel:
    """One river, a visit a day, the logarithm of its flow to predict at each."""
    units = {"rain": "mm", "temperature": "°C", "range": "°C"}
    return rnam.Panel.from_frame(
        days, id="river", time="date", values=WEATHER, target="log_flow", at="visit", units=units
    )


@dataclass(frozen=True)
class Block:
    """A block of time to predict. `train` has the flow far from it, `test` that in it; `inner`: folds of `train`."""

    name: str
    train: rnam.Panel
    test: rnam.Panel
    inner: list[tuple[rnam.Panel, rnam.Panel]]


def rows(panel: rnam.Panel) -> Indices:
    """The days whose flow a part of the panel shows. Each part begins at the first day."""
    return np.flatnonzero(panel.labelled)


def blocks(panel: rnam.Panel, count: int) -> list[Block]:
    """So many blocks of equal length, each purged from its training part."""
    folds = panel.folds(count, by="time", purge=PURGE, nested=INNER)
    return [Block(f"block {n}", train, test, inner) for n, (train, test, inner) in enumerate(folds)]


def forecast(panel: rnam.Panel) -> Block:
    """The last three years, from those before."""
    train, test = panel.split(until=[FORECAST], purge=PURGE)
    return Block("forecast", train, test, train.folds(INNER, by="time", purge=PURGE))
