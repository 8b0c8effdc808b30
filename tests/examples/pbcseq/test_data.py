"""Inputs, outcome, censoring weights and folds, against hand-made examples."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from examples.pbcseq import data
from examples.sequences import carried_forward
from tests.examples.pbcseq.support import DAYS, FUTIME, STATUS, frame
from tests.support.assertions import assert_equal


def test_cohort_is_one_padded_sequence_per_person_in_order_of_time(small):
    table = frame(DAYS, FUTIME, STATUS)
    shuffled = data.cohort(table.sample(frac=1, random_state=0))
    for name, value in vars(small).items():
        np.testing.assert_array_equal(getattr(shuffled, name), value)
    assert small.length.tolist() == [3, 2, 1, 3, 3]
    np.testing.assert_array_equal(small.day[1], [0, 500, np.nan])
    assert small.event.tolist() == [True, False, False, True, False]
    columns = [term.column for term in data.TERMS]
    np.testing.assert_array_equal(small.values[columns.index("chol"), 0], table["chol"][:3])
    assert np.isnan(small.values[columns.index("chol"), 0, 1])
    np.testing.assert_array_equal(small.values[columns.index("sex"), :, 0], [0, 1, 0, 1, 0])
    assert np.isnan(small.values[columns.index("age"), :, 1:]).all(), "a static term is recorded once"
    assert np.isnan(small.values[:, ~small.is_visit()]).all()


def test_the_data_are_the_ones_described(people):
    assert (len(people.id), people.length.sum()) == (312, 1945)
    assert (people.length.min(), people.length.max()) == (1, 16)
    assert len({term.column for term in data.TERMS}) == 15
    assert (people.day[:, 0] == 0).all()
    assert np.diff(people.day, axis=1)[people.is_visit()[:, 1:]].min() > 0


def test_outcome_at_the_edges_of_the_horizon(small):
    positive, known = data.outcome(small)
    # person 1 dies on day 1000: 1000, 730 and 200 days after the visits
    assert positive[0].tolist() == [False, True, True]
    assert known[0].tolist() == [True, True, True]
    # person 5 is censored on day 1000: 1000, 731 and 730 days after
    assert not positive[4].any()
    assert known[4].tolist() == [True, True, False]
    assert known[1].tolist() == [True, False, False]
    assert not known[2].any()
    # transplant counts: person 4, 2000, 731 and 500 days after
    assert positive[3].tolist() == [False, False, True]
    assert known[3].all()


def test_censoring_weights_by_hand(small):
    # Censored: person 3 on day 400, five at risk; 2 and 5 on day 1000, with 4 at risk beside them (1 died
    # that day, before). So the curve is 4/5 after 400 and 4/5 * 1/3 after 1000.
    curve = data.CensoringCurve.fit(small.futime, small.event)
    np.testing.assert_array_equal(curve.day, [400, 1000])
    beyond = curve.beyond(np.array([0, 399, 400, 999, 1000, 9999]))
    np.testing.assert_allclose(beyond, [1, 1, 0.8, 0.8, 0.8 / 3, 0.8 / 3])
    np.testing.assert_allclose(curve.until(np.array([400, 401, 1000, 1001])), [1, 0.8, 0.8, 0.8 / 3])
    weight = data.weights(small, np.arange(5))
    expected = [
        [1 / 0.8, 1 / 0.8, 1],  # alive beyond day 730; died on day 1000: 1 / 0.8, 0.8 / 0.8
        [1 / 0.8, 0, 0],  # beyond 730; censored; padding
        [0, 0, 0],
        [1 / 0.8, 1, 1],  # beyond 730; beyond 1999, transplant on 2000: (0.8 / 3) / (0.8 / 3)
        [1 / 0.8, 1 / 0.8, 0],  # beyond day 730 and day 999; not beyond 1000
    ]
    np.testing.assert_allclose(weight, expected)


def test_a_curve_that_would_end_at_zero_stays_at_its_last_positive_value():
    curve = data.CensoringCurve.fit(np.array([1.0, 2.0, 3.0]), np.array([False, True, False]))
    np.testing.assert_allclose(curve.beyond(np.array([0.5, 1, 3, 100])), [1, 2 / 3, 2 / 3, 2 / 3])


def test_weighted_rate_at_entry_is_the_kaplan_meier_estimate(people):
    """Weights of this kind reproduce Kaplan-Meier (Satten and Datta, 2001): an independent way there."""
    first = replace(people, day=np.where(np.arange(people.day.shape[1]) == 0, people.day, np.nan))
    first = replace(first, length=np.ones_like(people.length))
    positive, _ = data.outcome(first)
    weight = data.weights(first, np.arange(len(people.id)))
    survival = 1.0
    for day in np.unique(people.futime[people.event & (people.futime <= data.HORIZON)]):
        survival *= 1 - np.sum(people.event & (people.futime == day)) / np.sum(people.futime >= day)
    rate = (weight * positive).sum() / len(people.id)
    # float64 sums of 312 terms and products of as many factors: 1e-12 is 1000 times their rounding
    assert rate == pytest.approx(1 - survival, rel=1e-12)
    assert weight.sum() == pytest.approx(len(people.id), rel=1e-12)


def test_weights_come_from_the_training_people_alone(people):
    train, test = data.folds(people.event, 5, 0)[0]
    futime, event = people.futime.copy(), people.event.copy()
    futime[test] += 17
    event[test] = ~event[test]
    before = data.weights(people, train)
    after = data.weights(replace(people, futime=futime, event=event), train)
    np.testing.assert_array_equal(before[train], after[train])
    assert (before[test] != after[test]).any()
    _, known = data.outcome(people)
    np.testing.assert_array_equal(before > 0, known)
    assert np.isfinite(before).all()
    assert before[known].min() >= 1


@pytest.mark.parametrize(("count", "seed"), [(2, 0), (5, 0), (5, 1)])
def test_folds_split_people_and_share_the_outcomes(people, count, seed):
    made = data.folds(people.event, count, seed)
    assert sorted(np.concatenate([test for _, test in made])) == list(range(len(people.id)))
    for train, test in made:
        assert sorted([*train, *test]) == list(range(len(people.id)))
    events = [people.event[test].sum() for _, test in made]
    assert max(events) - min(events) <= 1
    again, other = data.folds(people.event, count, seed), data.folds(people.event, count, seed + 1)
    assert_equal("tested people", [test for _, test in again], [test for _, test in made])
    assert [set(test) for _, test in other] != [set(test) for _, test in made]


@pytest.mark.parametrize("count", [1, 3])
def test_folds_refuses_what_leaves_a_fold_without_an_outcome(count):
    with pytest.raises(ValueError, match=rf"folds must be from 2 to 2 .* got {count}"):
        data.folds(np.array([True, False, True, False, False]), count, 0)


def test_standardisation_is_that_of_the_training_people(people):
    train, test = data.folds(people.event, 5, 0)[0]
    scaler = data.Scaler.fit(people, train)
    values = people.values.copy()
    values[:, test] *= 3
    day = people.day.copy()
    day[test] *= 2
    other = data.Scaler.fit(replace(people, values=values, day=day), train)
    np.testing.assert_array_equal(scaler.mean, other.mean)
    np.testing.assert_array_equal(scaler.std, other.std)
    assert (scaler.gap_mean, scaler.gap_std) == (other.gap_mean, other.gap_std)

    inputs = scaler.inputs(people)
    for term, spec in enumerate(data.TERMS):
        own = inputs.input[term, train, :, 0][inputs.mask[term, train]].double()
        # float32 inputs near 1: 2^-24 each, so a mean of them is within 1e-6 of 0
        assert abs(own.mean()) < 1e-6, spec
        assert abs(own.std(correction=0) - 1) < 1e-6, spec
    visit = torch.tensor(people.is_visit())
    gap = inputs.input[0, train, :, 1][visit[train]].double()
    assert abs(gap.mean()) < 1e-6
    assert abs(gap.std(correction=0) - 1) < 1e-6


def test_inputs_of_a_small_cohort(small):
    train = np.array([0, 1, 3])
    inputs = data.Scaler.fit(small, train).inputs(small)
    columns = [term.column for term in data.TERMS]
    assert inputs.input.shape == (15, 5, 3, 2)
    bili = np.log(small.values[columns.index("bili")])
    flat = bili[train][np.isfinite(bili[train])]
    np.testing.assert_allclose(
        inputs.input[columns.index("bili"), 0, :, 0], (bili[0] - flat.mean()) / flat.std(), rtol=1e-6
    )
    gaps = np.array([0, 270, 530, 0, 500, 0, 1269, 231])
    np.testing.assert_allclose(inputs.input[0, 4, :, 1], (np.array([0, 269, 1]) - gaps.mean()) / gaps.std(), rtol=1e-6)
    static = [term.static for term in data.TERMS]
    assert (inputs.input[static][..., 1] == 0).all(), "a static term sees no time"
    assert not inputs.mask[static][:, :, 1:].any()
    np.testing.assert_array_equal(inputs.mask[columns.index("chol"), 0], [True, False, True])
    assert inputs.mask[columns.index("chol")].sum() == small.length.sum() - 4
    assert torch.isfinite(inputs.input).all()
    assert (inputs.input[:, 2, 1:] == 0).all(), "padding"


def test_no_two_input_columns_are_identical(people):
    """The 15 values, carried forward over the visits, and the time: no copy, and no rescaled copy.

    An input is a pair, and no two pairs are identical as their values differ. The time since the previous
    visit is the same for all labs and signs on purpose: each term must tell an old value from a new one by
    itself, since a term sees no other. It is 0 for the static terms.
    """
    inputs = data.Scaler.fit(people, np.arange(len(people.id))).inputs(people)
    visit = people.is_visit()
    values = np.where(inputs.mask, inputs.input[..., 0], np.nan)
    columns = [*carried_forward(values)[:, visit], inputs.input[0, ..., 1].numpy()[visit]]
    assert len(columns) == 16
    for a, b in itertools.combinations(columns, 2):
        both = np.isfinite(a) & np.isfinite(b)
        assert both.sum() > 1000
        assert not np.array_equal(a[both], b[both])
        assert abs(np.corrcoef(a[both], b[both])[0, 1]) < 0.99
    static = torch.tensor([term.static for term in data.TERMS])
    time = inputs.input[..., 1]
    assert torch.equal(time[~static], time[:1].expand(12, -1, -1))
    assert (time[static] == 0).all()


def test_inputs_hold_no_outcome(people):
    train, _ = data.folds(people.event, 2, 0)[0]
    other = replace(people, futime=people.futime[::-1] + 5, event=~people.event)
    a, b = (data.Scaler.fit(c, train).inputs(c) for c in (people, other))
    assert torch.equal(a.input, b.input)
    assert torch.equal(a.mask, b.mask)
    assert torch.equal(a.length, b.length)
