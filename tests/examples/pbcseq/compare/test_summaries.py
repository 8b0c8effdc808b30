"""Summaries against a loop over people, terms and visits, and that nothing of a later visit is in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from examples.pbcseq import data
from examples.pbcseq.compare import summaries


def looped(people: data.Cohort, scaler: data.Scaler) -> np.ndarray:
    """(people, seq, features) by the plainest code, visit by visit from the visits so far."""
    values = scaler.values(people)
    out = np.full((*people.day.shape, len(summaries.names())), np.nan)
    moving = [t for t, term in enumerate(data.TERMS) if not term.static]
    static = [t for t, term in enumerate(data.TERMS) if term.static]
    for person, visits in enumerate(people.length):
        for visit in range(visits):
            year = people.day[person, : visit + 1] / 365.25
            columns: dict[str, list[float]] = {what: [] for what in summaries.OF_A_TERM}
            for term in moving:
                so_far = values[term, person, : visit + 1]
                there = np.isfinite(so_far)
                y, x = so_far[there], year[there]
                columns["last"].append(y[-1] if len(y) else np.nan)
                columns["mean"].append(y.mean() if len(y) else np.nan)
                columns["lowest"].append(y.min() if len(y) else np.nan)
                columns["highest"].append(y.max() if len(y) else np.nan)
                columns["count"].append(len(y))
                columns["slope"].append(np.polyfit(x, y, 1)[0] if len(y) > 1 else 0)
                columns["since"].append(year[-1] - x[-1] if len(y) else np.nan)
            row = [number for what in summaries.OF_A_TERM for number in columns[what]]
            row += [values[term, person, 0] for term in static]
            row += [year[-1], year[-1] - year[-2] if visit else 0]
            out[person, visit] = row
    return out


def test_against_a_loop(people):
    scaler = data.Scaler.fit(people, np.arange(0, 312, 2))
    some = np.arange(0, 312, 12)
    few = replace(
        people, values=people.values[:, some], **{n: getattr(people, n)[some] for n in vars(people) if n != "values"}
    )
    got, expected = summaries.summaries(few, scaler), looped(few, scaler)
    at = few.is_visit()
    assert got.shape == expected.shape
    # a slope is a quotient of differences of sums of up to 16 products of size 16 * 16 (years squared), over
    # differences of days that are 0.1 years apart at least here: 16 * 256 * 2^-52 / 0.005 = 2e-10
    assert np.diff(few.day, axis=1)[at[:, 1:]].min() > 36
    np.testing.assert_allclose(got[at], expected[at], rtol=1e-9, atol=1e-9)
    assert np.isnan(expected[at]).any(), "some terms are not measured at once"


def test_nothing_of_later_visits_or_of_other_people_is_in_them(people):
    scaler, cut = data.Scaler.fit(people, np.arange(312)), 3
    values, day = people.values.copy(), people.day.copy()
    values[:, :, cut:] *= 1.7
    values[:6, :, cut::2] = np.nan
    day[:, cut:] += 100
    values[:, 200:], day[200:] = values[:, 200:] * 1.3, day[200:] * 2
    changed = replace(people, values=values, day=day, futime=people.futime + 900, event=~people.event)
    for function in (summaries.summaries, data.last_values):
        before, after = function(people, scaler), function(changed, scaler)
        np.testing.assert_array_equal(after[:200, :cut], before[:200, :cut])
        assert not np.array_equal(after[:200, cut:], before[:200, cut:], equal_nan=True), "the changed visits move"


def test_names_are_as_many_as_the_features_and_differ(small):
    scaler = data.Scaler.fit(small, np.arange(5))
    names = summaries.names()
    assert summaries.summaries(small, scaler).shape == (5, 3, len(names))
    assert len(set(names)) == len(names) == 12 * 7 + 3 + 2
    at = names.index("Cholesterol, count")
    chol = [term.column for term in data.TERMS].index("chol")
    counts = np.cumsum(np.isfinite(small.values[chol]), axis=1)
    np.testing.assert_array_equal(summaries.summaries(small, scaler)[..., at], counts)


def test_a_slope_of_values_on_a_line(small):
    scaler = data.Scaler.fit(small, np.arange(5))
    values = small.values.copy()
    albumin = [term.column for term in data.TERMS].index("albumin")  # no logarithm
    values[albumin] = np.where(small.is_visit(), 3 + 0.5 * small.day / 365.25, np.nan)
    got = summaries.summaries(replace(small, values=values), scaler)[..., summaries.names().index("Albumin, slope")]
    later = small.is_visit() & (np.arange(3) > 0)
    np.testing.assert_allclose(got[later], 0.5 / scaler.std[albumin], rtol=1e-9)
    assert (got[:, 0] == 0).all()
    assert later.sum() == 7


@pytest.mark.parametrize("what", ["lowest", "highest", "mean"])
def test_before_the_first_value_there_is_none(small, what):
    values = small.values.copy()
    values[0, 0, 0] = np.nan
    scaler = data.Scaler.fit(small, np.arange(5))
    got = summaries.summaries(replace(small, values=values), scaler)
    assert np.isnan(got[0, 0, summaries.names().index(f"Bilirubin, {what}")])
    assert np.isfinite(got[0, 1, summaries.names().index(f"Bilirubin, {what}")])
