"""A made-up study in the form of the data sets."""

from __future__ import annotations

import numpy as np
import pandas as pd

SHORT = ["--people", "60", "--epochs", "2", "--members", "2", "--device", "cpu"]  # of the command line


def frames(people: int = 80, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Persons and lab rows like nafld1 and nafld2; about half never have sbp, some facts are missing."""
    rng = np.random.default_rng(seed)
    persons = pd.DataFrame(
        {
            "id": np.arange(1, people + 1),
            "age": rng.integers(30, 80, people),
            "male": rng.integers(0, 2, people),
            "bmi": np.where(rng.random(people) < 0.2, np.nan, rng.uniform(20, 40, people)),
        }
    )
    rows = []
    for person in persons["id"]:
        days = np.sort(rng.choice(4000, rng.integers(1, 12), replace=False)) - 3000
        for day in days:
            rows.append((person, day, "hdl", rng.integers(30, 90)))
            if person % 2 and rng.random() < 0.6:
                rows.append((person, day, "sbp", rng.integers(100, 180)))
            if person % 3 == 0 and rng.random() < 0.3:
                rows.append((person, day, "fib4", rng.uniform(0.5, 3)))
            if person % 5 == 0 and rng.random() < 0.3:
                rows.append((person, day, "smoke", rng.integers(0, 2)))
    labs = pd.DataFrame(rows, columns=["id", "days", "test", "value"])
    return persons, labs.sample(frac=1, random_state=seed)
