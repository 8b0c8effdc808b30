"""Outside is what never occurred: a value past the range, a run that is too long, a history that never was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnam
from rnam.estimators.encoding import Encoder, Feature, Inputs
from rnam.explanation.support import Support

PEOPLE, DAYS = 40, 100


def spells(longest: int = 18) -> np.ndarray:
    """Rain of wet and dry spells (people, days), of which the dry ones last at most so long."""
    rng = np.random.default_rng(0)
    rain = np.empty((PEOPLE, DAYS))
    for own in rain:
        day = 0
        while day < DAYS:
            dry, wet = rng.integers(1, longest + 1), rng.integers(1, 10)
            spell = np.concatenate([np.zeros(dry), rng.uniform(5, 30, wet)])[: DAYS - day]
            own[day : day + len(spell)] = spell
            day += len(spell)
    rain[0, 3:21] = 0.0  # the longest dry spell is 18 days, after rain and before it
    rain[0, 2] = rain[0, 21] = 9.0
    return rain


def encoded(rain: np.ndarray, encoder: Encoder) -> Inputs:
    return encoder.transform(rnam.Panel.from_array(rain[..., None], names=["rain"]))


@pytest.fixture(scope="module")
def known() -> tuple[Encoder, Feature, Support]:
    panel = rnam.Panel.from_array(spells()[..., None], names=["rain"])
    encoder = Encoder.fit(panel)
    feature = encoder.features[0]
    inputs = encoder.transform(panel)
    return encoder, feature, Support.of(inputs, feature, (), np.arange(PEOPLE), panel.times)


def test_eighty_dry_days_never_were(known: Any) -> None:
    encoder, _, support = known
    dry = np.concatenate([[[9.0]], np.zeros((1, 80))], axis=1)
    outside = support.outside(encoded(dry, encoder), np.arange(81))
    assert not outside[1:18].any() and outside[19:].all(), "the longest dry spell is 18"


def test_held_values_and_the_range(known: Any) -> None:
    _, feature, support = known
    values = feature.encode(np.array([0.0, 0.0, 31.0, -1.0]))[0].astype(np.float64)
    assert support.held(18, values).tolist() == [False, False, True, True]
    assert support.held(19, values).tolist() == [True, True, True, True]


def test_what_occurred_is_inside_but_for_one_in_a_hundred(known: Any) -> None:
    encoder, _, support = known
    inputs = encoded(spells(), encoder)
    assert support.outside(inputs, np.arange(PEOPLE * DAYS)).mean() < 0.02


def test_a_history_that_never_was(known: Any) -> None:
    encoder, _, support = known
    rng = np.random.default_rng(1)
    wet = rng.uniform(5, 30, (1, 60))  # each value occurred, and none stays; but never for 60 days
    outside = support.outside(encoded(wet, encoder), np.arange(60))
    assert outside[40:].all() and outside[:6].mean() < 0.5


def test_missing_visits_are_as_the_last_observed_one(known: Any) -> None:
    encoder, _, support = known
    rain = np.array([[np.nan, 9.0, np.nan, 500.0, np.nan, 9.0]])
    assert support.outside(encoded(rain, encoder), np.arange(5)).tolist() == [False, False, False, True, True]


def test_one_series_is_cut_into_blocks_of_time() -> None:
    rng = np.random.default_rng(2)
    panel = rnam.Panel.from_array(rng.normal(size=(1, 2000, 1)))
    encoder = Encoder.fit(panel)
    inputs = encoder.transform(panel)
    support = Support.of(inputs, encoder.features[0], (), np.zeros(1), panel.times)
    assert 0 < support.furthest < np.inf and support.outside(inputs, np.arange(2000)).mean() < 0.02


def test_a_column_without_a_value_is_refused(known: Any) -> None:
    encoder, feature, _ = known
    inputs = encoded(np.array([[1.0, 2.0]]), encoder)
    nothing = inputs._replace(mask=np.zeros_like(inputs.mask))
    with pytest.raises(ValueError, match="column 'rain' must have a value in the background, got none"):
        Support.of(nothing, feature, (), np.zeros(1), np.zeros(len(inputs.values)))
