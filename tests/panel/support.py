"""A small table of visits, and the loop that the arrays of a panel are held against."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas

import rnam

ROLES: dict[str, Any] = dict(
    id="person", time="day", values=["bili", "hepato"], categories=["ward"], static=["age", "sex"], target="died",
    weight="weight", group="site", units={"bili": "mg/dl"}, titles={"bili": "Bilirubin"},
)  # fmt: skip


def visits() -> Any:
    """Three people: missing values, people who take turns, a column without a role."""
    return pandas.DataFrame(
        {
            "person": ["c", "a", "a", "b", "c", "a"],
            "day": [0, 1, 4, 2, 9, 11],
            "bili": [1.0, 2.0, np.nan, 4.0, 5.0, 6.0],
            "note": list("uvwxyz"),
            "hepato": [0, 1, 1, 0, 1, 0],
            "ward": ["x", "y", None, "x", "x", "z"],
            "age": [50.0, 41.0, 41.0, 33.0, 50.0, 41.0],
            "sex": ["f", "m", "m", "f", "f", "m"],
            "died": [True, False, False, True, True, False],
            "weight": [1.0, 2.0, 2.0, 0.0, 1.0, 2.0],
            "site": [7, 7, 7, 8, 7, 7],
        }
    )


def panel(**changes: Any) -> rnam.Panel:
    return rnam.Panel.from_frame(visits(), **{**ROLES, **changes})


def people(count: int = 12, seed: int = 0, steps: int = 6) -> Any:
    """A table of people with 1 to `steps` visits on days that are drawn, labels at visits of which some are missing."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(count):
        for day in np.sort(rng.choice(40, rng.integers(1, steps + 1), replace=False)):
            label = rng.integers(0, 2) if rng.random() < 0.8 else np.nan
            rows.append((person, day, rng.normal(), "uvw"[rng.integers(3)], person % 2, label))
    return pandas.DataFrame(rows, columns=["person", "day", "x", "kind", "sex", "label"])


def people_panel(at: str = "visit", **changes: Any) -> rnam.Panel:
    roles = dict(id="person", time="day", values=["x"], categories=["kind"], static=["sex"], target="label", at=at)
    return rnam.Panel.from_frame(people(), **{**roles, **changes})


def series(hours: int = 24, groups: int = 2) -> Any:
    """Hourly series on a grid, whose values say where they stand: 100 for each group and 1 for each hour."""
    times = pandas.date_range("2013-01-01", periods=hours, freq="h")
    return pandas.concat(
        [
            pandas.DataFrame({"origin": name, "ts": times, "temp": 100.0 * n + np.arange(hours), "hour": times.hour})
            for n, name in enumerate("ABC"[:groups])
        ],
        ignore_index=True,
    )
