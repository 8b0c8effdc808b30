"""What is known of each term at a visit, from that visit and earlier ones: inputs of models without a memory."""

from __future__ import annotations

import numpy as np

from examples.pbcseq.data import TERMS, YEAR, Cohort, Floats, Scaler
from examples.sequences import carried_forward

# of the values measured so far; `slope` per year, `since` in years since the last of them
OF_A_TERM = ("last", "mean", "lowest", "highest", "count", "slope", "since")
OF_A_VISIT = ("years since entry", "years since the previous visit")


def summaries(people: Cohort, scaler: Scaler) -> Floats:
    """`OF_A_TERM` for each term that is not static, of standardised values, the static terms' values, and
    `OF_A_VISIT`: (people, seq, features), named by `names`. NaN before the first value; at padding meaningless."""
    year = np.where(people.is_visit(), people.day, np.nan) / YEAR
    values = scaler.values(people)
    static = np.array([term.static for term in TERMS])
    columns = [*_of_terms(values[~static], year), *carried_forward(values[static])]
    columns += [year, np.diff(year, axis=1, prepend=year[:, :1])]
    return np.stack(columns, axis=-1)


def names() -> list[str]:
    """Of the features of `summaries`."""
    moving = [f"{term.name}, {what}" for what in OF_A_TERM for term in TERMS if not term.static]
    return [*moving, *(term.name for term in TERMS if term.static), *OF_A_VISIT]


def _of_terms(values: Floats, year: Floats) -> list[Floats]:
    """The summaries in order, each with its terms in order: (people, seq) each."""
    seen = np.isfinite(values)
    known, at = np.where(seen, values, 0), np.where(seen, year, 0)

    def total(x: Floats) -> Floats:
        return np.cumsum(x, axis=-1)

    n = total(seen.astype(np.float64))
    some = np.where(n > 0, n, np.nan)
    mean, mean_at = total(known) / some, total(at) / some
    moment = total(at * known) - n * mean_at * mean
    spread = total(at * at) - n * mean_at**2
    # of one value, or of values on one day, there is no slope; days differ by 1 / 365 of a year at least
    slope = np.where(n > 1, moment / np.where(spread > 1e-6, spread, np.inf), 0)
    summary = {
        "last": carried_forward(values),
        "mean": mean,
        "lowest": np.where(n > 0, np.minimum.accumulate(np.where(seen, values, np.inf), axis=-1), np.nan),
        "highest": np.where(n > 0, np.maximum.accumulate(np.where(seen, values, -np.inf), axis=-1), np.nan),
        "count": n,
        "slope": slope,
        "since": year - carried_forward(np.where(seen, year, np.nan)),
    }
    return [column for what in OF_A_TERM for column in summary[what]]
