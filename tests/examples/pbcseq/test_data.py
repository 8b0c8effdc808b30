"""Inputs, outcome, censoring weights and folds, against hand-made examples."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas
import pytest

from examples.pbcseq import data
from tests.examples.pbcseq.support import DAYS, FUTIME, STATUS, frame
from tests.support.assertions import assert_equal, assert_within


def test_visits_are_in_order_of_people_and_time(small: Any) -> None:
    table = frame(DAYS, FUTIME, STATUS)
    pandas.testing.assert_frame_equal(data.visits(table.sample(frac=1, random_state=0)), small)
    assert_equal("day", small["day"], [day for days in DAYS.values() for day in days])
    assert_equal("event", small.groupby("id")["event"].last(), [True, False, False, True, False])
    np.testing.assert_array_equal(small["chol"], table["chol"])
    assert_equal("sex", small["sex"], (small["id"] % 2 == 0).astype(float))
    nan = np.nan
    years = np.array([nan, 270, 530, nan, 500, nan, nan, 1269, 231, nan, 269, 1]) / data.YEAR
    np.testing.assert_array_equal(small["timing"], years)


def test_the_data_are_the_ones_described(visits: Any) -> None:
    sizes = visits.groupby("id").size()
    assert (len(sizes), sizes.sum(), sizes.min(), sizes.max()) == (312, 1945, 1, 16)
    assert len({term.column for term in data.TERMS}) == 15
    assert_equal("first day", visits.groupby("id")["day"].first(), np.zeros(312, int))
    assert visits["timing"].min() > 0


def test_outcome_at_the_edges_of_the_horizon(small: Any) -> None:
    nan = np.nan
    expected = [
        *(0, 1, 1),  # person 1 dies on day 1000: 1000, 730 and 200 days after the visits
        *(0, nan),  # person 2 is censored on day 1000, 1000 and 500 days after
        nan,
        *(0, 0, 1),  # transplant counts: 2000, 731 and 500 days after
        *(0, 0, nan),  # person 5 is censored 1000, 731 and 730 days after
    ]
    np.testing.assert_array_equal(small["outcome"], expected)


def test_censoring_weights_by_hand(small: Any) -> None:
    # Censored: person 3 on day 400, five at risk; 2 and 5 on day 1000, with 4 at risk beside them (1 died that day,
    # before). So the curve is 4/5 after 400 and 4/5 * 1/3 after 1000.
    expected = [
        *(1 / 0.8, 1 / 0.8, 1),  # alive beyond day 730; died on day 1000: 1 / 0.8, 0.8 / 0.8
        *(1 / 0.8, 0),  # beyond 730; censored
        0,
        *(1 / 0.8, 1, 1),  # beyond 730; beyond 1999, transplant on 2000: (0.8 / 3) / (0.8 / 3)
        *(1 / 0.8, 1 / 0.8, 0),  # beyond day 730 and day 999; not beyond 1000
    ]
    weight = data.weights(small, [1, 2, 3, 4, 5])
    assert_within("weight", weight, np.array(expected), 1e-15)


def test_a_curve_that_would_end_at_zero_stays_at_its_last_positive_value(small: Any) -> None:
    """Of persons 2, 3 and 5 alone all are censored: 2/3 after day 400, and 0 after day 1000."""
    weight = data.weights(small, [2, 3, 5])
    assert weight[0] == pytest.approx(1.5)  # person 1, without an event by day 730
    assert weight[7] == pytest.approx(1.0)  # person 4 on day 1269, by day 1999


def test_weighted_rate_at_entry_is_the_kaplan_meier_estimate(visits: Any) -> None:
    """Weights of this kind reproduce Kaplan-Meier (Satten and Datta, 2001): an independent way there."""
    first = visits[visits["day"] == 0]
    weight = data.weights(first, first["id"])
    futime, event = first["futime"].to_numpy(), first["event"].to_numpy()
    survival = 1.0
    for day in np.unique(futime[event & (futime <= data.HORIZON)]):
        survival *= 1 - np.sum(event & (futime == day)) / np.sum(futime >= day)
    rate = (weight * (first["outcome"] == 1)).sum() / len(first)
    # float64 sums of 312 terms and products of as many factors: 1e-12 is 1000 times their rounding
    assert rate == pytest.approx(1 - survival, rel=1e-12)
    assert weight.sum() == pytest.approx(len(first), rel=1e-12)


def test_weights_come_from_the_training_people_alone(visits: Any, made: list[data.Fold]) -> None:
    fold = made[0]
    changed = visits.assign(event=visits["event"] ^ fold.is_test, futime=visits["futime"] + 17 * fold.is_test)
    train = ~fold.is_test
    after = data.weights(changed, fold.train.ids)
    assert_equal("weight", after[train], fold.weight[train])
    assert (after[fold.is_test] != fold.weight[fold.is_test]).any()
    assert_equal("known", fold.weight > 0, visits["outcome"].notna())
    assert np.isfinite(fold.weight).all()
    assert fold.weight[fold.weight > 0].min() >= 1


@pytest.mark.parametrize(("count", "seed"), [(2, 0), (5, 1)])
def test_folds_split_people_and_share_the_outcomes(visits: Any, count: int, seed: int) -> None:
    made = data.folds(visits, count, seed)
    assert sorted(person for fold in made for person in fold.test.ids) == sorted(visits["id"].unique())
    assert_equal("tested once", np.sum([fold.is_test for fold in made], axis=0), np.ones(len(visits), int))
    for fold in made:
        assert_equal("test", fold.is_test, visits["id"].isin(fold.test.ids))
        assert not set(fold.train.ids) & set(fold.test.ids)
    events = [visits[fold.is_test].groupby("id")["event"].last().sum() for fold in made]
    assert max(events) - min(events) <= 1
    again, other = data.folds(visits, count, seed), data.folds(visits, count, seed + 1)
    assert_equal("tested people", again[0].is_test, made[0].is_test)
    assert (other[0].is_test != made[0].is_test).any()


def test_the_panel_reads_logarithms_and_keeps_facts_static(visits: Any) -> None:
    panel = data.panel(visits)
    assert len(panel) == 312 and panel.at == "visit"
    for at, term in enumerate(term for term in data.TERMS if not term.static):
        raw = visits[term.column]
        np.testing.assert_array_equal(panel.values[:, at], np.log(raw) if term.log else raw)
    assert [column.name for column in panel.schema.static] == ["age", "sex", "trt"]


def test_no_two_input_columns_are_identical(visits: Any) -> None:
    """The 15 values, carried forward over the visits, and the time: no copy, and no rescaled copy."""
    names = [term.column for term in data.TERMS]
    columns = [*visits.groupby("id")[names].ffill().to_numpy().T, visits["timing"].to_numpy()]
    for a, b in itertools.combinations(columns, 2):
        both = np.isfinite(a) & np.isfinite(b)
        assert both.sum() > 1000
        assert abs(np.corrcoef(a[both], b[both])[0, 1]) < 0.99
