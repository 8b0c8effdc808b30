"""Made-up visits in the form of the data set."""

from __future__ import annotations

import numpy as np
import pandas as pd

from examples.pbcseq import data

SHORT = ["--folds", "2", "--epochs", "2", "--device", "cpu"]  # of the command line

# Five people. On day 1000 one dies and two are censored: the death counts as the earlier.
DAYS = {1: [0, 270, 800], 2: [0, 500], 3: [0], 4: [0, 1269, 1500], 5: [0, 269, 270]}
FUTIME = {1: 1000, 2: 1000, 3: 400, 4: 2000, 5: 1000}
STATUS = {1: 2, 2: 0, 3: 0, 4: 1, 5: 0}


def frame(days: dict[int, list[int]], futime: dict[int, int], status: dict[int, int]) -> pd.DataFrame:
    """Visits as the data set has them, with different numbers in every column; chol is missing at times."""
    rows = [
        {"id": person, "day": day, "futime": futime[person], "status": status[person]}
        for person, visits in days.items()
        for day in visits
    ]
    table = pd.DataFrame(rows)
    rng = np.random.default_rng(0)
    for term in data.TERMS:
        table[term.column] = rng.uniform(1, 9, len(table))
    table["chol"] = table["chol"].where(np.arange(len(table)) % 3 != 1)
    table["sex"] = np.where(table["id"] % 2 == 0, "f", "m")
    return table


def measured_again(visits: pd.DataFrame) -> pd.DataFrame:
    """bool, as the columns of the terms that are not static: values before a person's last visit that are measured
    again after."""
    columns = [term.column for term in data.TERMS if not term.static]
    seen = visits[columns].notna()
    left = seen[::-1].groupby(visits["id"][::-1]).cumsum()[::-1]
    return seen & (left > 1)
