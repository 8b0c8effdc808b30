"""Small tables that hold every kind of column, and estimators that train for a moment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas

import rnam

ROWS = 60


def table(rows: int = ROWS) -> Any:
    """A frame of rows: numbers with gaps, a nullable integer, words, a pandas category, bools."""
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "age": rng.normal(50, 9, rows),
            "ward": rng.choice(["a", "b", "c"], rows),
            "visits": pandas.array(rng.integers(0, 5, rows), dtype="Int64"),
            "stage": pandas.Categorical(rng.choice(["I", "II"], rows)),
            "smoker": rng.random(rows) < 0.3,
        }
    )
    frame.loc[3, "age"], frame.loc[4, "visits"], frame.loc[5, "ward"] = np.nan, pandas.NA, None
    return frame


def outcome(frame: Any) -> Any:
    return frame["age"].fillna(50).to_numpy() + 5 * (frame["ward"] == "a").to_numpy()


def visits(people: int = 20, seed: int = 0) -> Any:
    """A table of people with 1 to 6 visits at irregular times, labels at visits of which some are missing."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(people):
        for day in np.sort(rng.choice(60, rng.integers(1, 7), replace=False)):
            label = float(rng.integers(0, 2)) if rng.random() < 0.8 else np.nan
            value = np.nan if rng.random() < 0.2 else rng.normal()
            rows.append((person, int(day), value, rng.normal(), "uv"[rng.integers(2)], 40 + person, label, person % 2))
    names = ["person", "day", "x", "z", "kind", "age", "label", "died"]
    return pandas.DataFrame(rows, columns=names)


def panel(at: str = "id", **changes: Any) -> rnam.Panel:
    roles: dict[str, Any] = dict(
        id="person", time="day", values=["x", "z"], categories=["kind"], static=["age"],
        target="died" if at == "id" else "label", at=at,
    )  # fmt: skip
    return rnam.Panel.from_frame(visits(), **{**roles, **changes})


def quick(**changes: Any) -> dict[str, Any]:
    """Parameters of a short fit."""
    return {"max_epochs": 2, "random_state": 0, "verbose": 0, "device": "cpu", **changes}


def recurrent(**changes: Any) -> rnam.RNAMClassifier:
    return rnam.RNAMClassifier(4, **quick(**changes))


def feed_forward(**changes: Any) -> rnam.NAMRegressor:
    return rnam.NAMRegressor((8,), **quick(**changes))
