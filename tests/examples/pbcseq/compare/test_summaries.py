"""Summaries against a loop over people, terms and visits, and that nothing of a later visit is in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest

from examples.pbcseq import data
from examples.pbcseq.compare import summaries


def looped(visits: Any) -> Any:
    """By the plainest code, visit by visit from the visits so far."""
    values, rows = data.logged(visits), []
    for _, own in values.groupby("id"):
        year = own["day"].to_numpy() / 365.25
        for visit in range(len(own)):
            row: dict[str, float] = {}
            for term in data.TERMS:
                so_far = own[term.column].to_numpy()[: visit + 1]
                if term.static:
                    row[term.name] = so_far[-1]
                    continue
                there = np.isfinite(so_far)
                y, x, nan = so_far[there], year[: visit + 1][there], np.nan
                row |= {
                    f"{term.name}, last": y[-1] if len(y) else nan,
                    f"{term.name}, mean": y.mean() if len(y) else nan,
                    f"{term.name}, lowest": y.min() if len(y) else nan,
                    f"{term.name}, highest": y.max() if len(y) else nan,
                    f"{term.name}, count": len(y),
                    f"{term.name}, slope": np.polyfit(x, y, 1)[0] if len(y) > 1 else 0,
                    f"{term.name}, since": year[visit] - x[-1] if len(y) else nan,
                }
            row["years since entry"] = year[visit]
            row["years since the previous visit"] = year[visit] - year[visit - 1] if visit else 0
            rows.append(row)
    return pandas.DataFrame(rows)


def test_against_a_loop(visits: Any) -> None:
    few = visits[visits["id"] % 12 == 0].reset_index(drop=True)
    got, expected = summaries.summaries(few), looped(few)
    assert len(got.columns) == 12 * 7 + 3 + 2
    # a slope is a quotient of differences of sums of up to 16 products of size 16 * 16 (years squared), over
    # differences of days that are 0.1 years apart at least here: 16 * 256 * 2^-52 / 0.005 = 2e-10
    assert few["timing"].min() > 0.1
    pandas.testing.assert_frame_equal(got, expected[list(got)], check_dtype=False, rtol=1e-9, atol=1e-9)
    assert expected.isna().to_numpy().any(), "some terms are not measured at once"


def test_nothing_of_later_visits_or_of_other_people_is_in_them(visits: Any) -> None:
    step, other = visits.groupby("id").cumcount() >= 3, visits["id"] > 200
    changed = visits.copy()
    changed[data.COLUMNS[:12]] = changed[data.COLUMNS[:12]].astype(float)
    changed.loc[step | other, data.COLUMNS[:12]] *= 1.7
    changed.loc[step & (visits.index % 2 == 0), data.COLUMNS[:6]] = np.nan
    changed.loc[step | other, "day"] += 100
    changed = changed.assign(futime=visits["futime"] + 900, event=~visits["event"])
    before, after = summaries.summaries(visits), summaries.summaries(changed)
    pandas.testing.assert_frame_equal(after[~(step | other)], before[~(step | other)])
    assert not after[step & ~other].equals(before[step & ~other]), "the changed visits move"


def test_a_slope_of_values_on_a_line(small: Any) -> None:
    line = small.assign(albumin=3 + 0.5 * small["day"] / 365.25)
    got = summaries.summaries(line)["Albumin, slope"].to_numpy()
    later = (small.groupby("id").cumcount() > 0).to_numpy()
    np.testing.assert_allclose(got[later], 0.5, rtol=1e-9)
    assert (got[~later] == 0).all() and later.sum() == 7


@pytest.mark.parametrize("what", ["lowest", "highest", "mean"])
def test_before_the_first_value_there_is_none(small: Any, what: str) -> None:
    small.loc[0, "bili"] = np.nan
    got = summaries.summaries(small)[f"Bilirubin, {what}"]
    assert np.isnan(got[0]) and np.isfinite(got[1])
