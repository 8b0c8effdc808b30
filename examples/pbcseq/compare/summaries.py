"""What is known of each term at a visit, from that visit and earlier ones: inputs of models without a memory."""

from __future__ import annotations

import numpy as np
import pandas

from examples.pbcseq.data import TERMS, TIMING, YEAR, logged

# of the values measured so far; `slope` per year, `since` in years since the last of them
OF_A_TERM = ("last", "mean", "lowest", "highest", "count", "slope", "since")


def summaries(frame: pandas.DataFrame) -> pandas.DataFrame:
    """A row for each visit: `OF_A_TERM` of each term that is not static, such as "Albumin, slope"; the static terms;
    the years since entry and since the previous visit, 0 at the first. NaN before the first value."""
    values, year, person = logged(frame), frame["day"] / YEAR, frame["id"]
    found: dict[str, pandas.Series] = {}
    for term in TERMS:
        if term.static:
            found[term.name] = values[term.column]
            continue
        of_term = _of_term(values[term.column], year, person)
        found |= {f"{term.name}, {what}": of_term[what] for what in OF_A_TERM}
    since = frame[TIMING.column].fillna(0)
    return pandas.DataFrame(found | {"years since entry": year, "years since the previous visit": since})


def _of_term(value: pandas.Series, year: pandas.Series, person: pandas.Series) -> dict[str, pandas.Series]:
    seen = value.notna()
    known, at = value.fillna(0), year.where(seen, 0)

    def total(x: pandas.Series) -> pandas.Series:
        return x.groupby(person).cumsum()

    def carried(x: pandas.Series) -> pandas.Series:
        return x.groupby(person).ffill()

    n = total(seen.astype(np.float64))
    some = n.where(n > 0)
    mean, mean_at = total(known) / some, total(at) / some
    moment = total(at * known) - n * mean_at * mean
    spread = total(at * at) - n * mean_at**2
    # of one value, or of values on one day, there is no slope; days differ by 1 / 365 of a year at least
    slope = (moment / spread.where(spread > 1e-6, np.inf)).where(n > 1, 0.0)
    return {
        "last": carried(value),
        "mean": mean,
        "lowest": carried(value.groupby(person).cummin()),
        "highest": carried(value.groupby(person).cummax()),
        "count": n,
        "slope": slope,
        "since": year - carried(year.where(seen)),
    }
