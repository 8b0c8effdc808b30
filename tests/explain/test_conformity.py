"""Bands and sets against counts by hand, and how often they hold the truth of new people."""

import math

import numpy as np
import pytest
import torch

from rnam import explain


def test_without_groups_the_threshold_is_the_usual_order_statistic() -> None:
    rng = np.random.default_rng(0)
    for rows in (9, 10, 19, 20, 99, 100):
        prediction, y = rng.normal(size=rows), rng.normal(size=rows)
        found = explain.conformal(prediction, y)
        assert found.threshold == np.sort(np.abs(y - prediction))[math.ceil((rows + 1) * 0.9 - 1e-9) - 1], rows
        assert (found.rows, found.groups, found.pooled) == (rows, rows, True)


def test_each_group_counts_alike() -> None:
    """12 people, one of them with 1,000 rows that are far off: of each other one half of the rows is at 1, half at 2.

    Up to 1 there are 11 halves of 13; up to 2 11 of 13 (0.846); the last person is at 5 and brings 12 of 13."""
    y = np.concatenate([np.tile([1.0, 2.0], 11), np.full(1000, 5.0)])
    groups = np.concatenate([np.repeat(np.arange(11), 2), np.full(1000, 11)])
    for level, threshold in ((0.40, 1.0), (0.43, 2.0), (0.84, 2.0), (0.85, 5.0), (0.92, 5.0)):
        assert explain.conformal(np.zeros(1022), y, groups=groups, level=level).threshold == threshold, level
    assert explain.conformal(np.zeros(1022), y, level=0.84).threshold == 5.0, "pooled, the long person decides"
    with pytest.raises(ValueError, match=r"groups must be at least 14 for level 0.93, got 12: groups=None pools"):
        explain.conformal(np.zeros(1022), y, groups=groups, level=0.93)


def _people(rng: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Predictions of an overconfident model for people who are off by more or less, each on all of their visits: those
    with many visits are off most. Also the scale that the model says, which is right up to a factor."""
    visits = rng.integers(1, 30, number)
    person = np.repeat(np.arange(number), visits)
    spread = rng.uniform(0.5, 2, number) * (1 + visits / 30)
    prediction, scale = rng.normal(size=len(person)), (spread / 3)[person]
    return prediction, prediction + rng.normal(size=number)[person] * spread[person], person, scale


@pytest.mark.parametrize("scaled", [False, True])
def test_nine_of_ten_visits_of_a_new_person_are_covered(scaled: bool) -> None:
    rng = np.random.default_rng(1)
    rates, pooled = [], []
    for _ in range(40):
        prediction, y, person, scale = _people(rng, 60)
        known = {"scale": scale} if scaled else {}
        bands = explain.conformal(prediction, y, groups=person, **known)
        rows = explain.conformal(prediction, y, **known)
        prediction, y, person, scale = _people(rng, 100)
        known = {"scale": scale} if scaled else {}
        rates.append(bands.coverage(prediction, y, groups=person, **known).rate)
        pooled.append(rows.coverage(prediction, y, groups=person, **known).rate)
    # 40 draws of 60 and 100 people: the mean rate is known to sqrt(.9 * .1 * (1 / 60 + 1 / 100) / 40) = .008, three of
    # which are .024; the promise is .9 to .9 + 1 / 61
    assert 0.9 - 0.024 <= np.mean(rates) <= 0.9 + 1 / 61 + 0.024
    assert 0.85 <= np.mean(rates) <= 0.95
    if not scaled:
        assert np.mean(pooled) > np.mean(rates) + 0.01, "people with many visits are off most, and widen pooled bands"


def test_sets_hold_the_class_of_a_new_person() -> None:
    rng = np.random.default_rng(2)

    def people(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        person = np.repeat(np.arange(number), 5)
        odds = rng.normal(size=(number, 3))[person] * 1.5
        told = np.exp(3 * odds) / np.exp(3 * odds).sum(1, keepdims=True)  # overconfident: three times the log-odds
        right = np.exp(odds) / np.exp(odds).sum(1, keepdims=True)
        draw = rng.random(number)[person]  # all visits of a person have one class, but for its odds
        return told, (right.cumsum(1) < draw[:, None]).sum(1).clip(0, 2), person

    rates = []
    for _ in range(40):
        told, y, person = people(80)
        found = explain.conformal(told, y, groups=person)
        assert found.classes == 3
        told, y, person = people(80)
        coverage = found.coverage(torch.tensor(told), torch.tensor(y), groups=person)
        rates.append(coverage.rate)
        sets = found.sets(told)
        assert coverage.size == pytest.approx(sets.sum(1).mean(), abs=1e-12)
    # sqrt(.9 * .1 * (1 / 80 + 1 / 80) / 40) = .0075, three of which are .023
    assert 0.9 - 0.023 <= np.mean(rates) <= 0.9 + 1 / 81 + 0.023


def test_coverage_is_counted_by_person() -> None:
    found = explain.conformal(np.zeros(9), np.full(9, 1.0))
    coverage = found.coverage([0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 0.5, 2.5], groups=["b", "b", "b", "a"])
    assert coverage.shares.tolist() == [0.0, 2 / 3]
    assert coverage.rate == pytest.approx(1 / 3, abs=1e-15)
    assert coverage.standard_error == pytest.approx(1 / 3, abs=1e-15)
    assert coverage.size == 2.0
    alone = found.coverage([0.0], [5.0])
    assert (alone.rate, math.isnan(alone.standard_error)) == (0.0, True)


def test_bands_are_as_wide_as_their_scale_and_keep_the_shape() -> None:
    rng = np.random.default_rng(3)
    y, scale = rng.normal(size=(4, 5)), rng.uniform(1, 2, (4, 5))
    found = explain.conformal(np.zeros((4, 5)), y, scale=scale)
    band = found.band(torch.ones(2, 3), scale=np.full((2, 3), 3.0))
    assert band.lower.shape == (2, 3)
    assert (band.upper - band.lower == 6 * found.threshold).all()
    assert found.coverage(np.zeros((4, 5)), y, scale=scale).rate >= 0.9


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"level": 1.0}, ValueError, "level must be between 0 and 1, got 1.0"),
        ({"level": "0.9"}, TypeError, "level"),
        ({"y": np.zeros(19)}, ValueError, r"y must have the shape of prediction, \(20,\), got \(19,\)"),
        ({"y": np.full(20, np.nan)}, ValueError, "y must be finite"),
        ({"prediction": np.array(["a"] * 20)}, TypeError, "prediction must be an array of numbers"),
        ({"prediction": np.zeros(0), "y": np.zeros(0)}, ValueError, "at least one number"),
        ({"prediction": np.zeros(8), "y": np.zeros(8)}, ValueError, "rows must be at least 9 for level 0.9, got 8$"),
        ({"groups": np.arange(20) // 4}, ValueError, "groups must be at least 9 for level 0.9, got 5: groups=None"),
        ({"groups": np.zeros(3)}, ValueError, "groups must have one for each of 20 rows, got 3"),
        ({"scale": np.zeros(20)}, ValueError, "scale must be greater than 0, got 0.0"),
        ({"scale": np.ones(3)}, ValueError, r"scale must have the shape of the predictions, got \(3,\)"),
        ({"prediction": np.full((20, 2), 0.5), "scale": np.ones(20)}, ValueError, "scale must be None"),
        ({"prediction": np.full((20, 2), 1.5)}, ValueError, "probabilities from 0 to 1"),
        ({"prediction": np.full((20, 1), 0.5)}, ValueError, "two classes or more"),
        ({"prediction": np.full((20, 2), 0.5), "y": np.full(20, 2)}, ValueError, "classes from 0 to 1, got 2 to 2"),
        ({"prediction": np.full((19, 2), 0.5)}, ValueError, r"y must have shape \(19,\), a class for each row"),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, object], error: type[Exception], words: str) -> None:
    given: dict[str, object] = {"prediction": np.zeros(20), "y": np.zeros(20), **change}
    with pytest.raises(error, match=words):
        explain.conformal(given.pop("prediction"), given.pop("y"), **given)  # type: ignore[arg-type]


def test_numbers_and_classes_are_not_mistaken() -> None:
    numbers = explain.conformal(np.zeros(9), np.zeros(9))
    classes = explain.conformal(np.full((9, 2), 0.5), np.zeros(9))
    with pytest.raises(ValueError, match="sets must be asked of classes"):
        numbers.sets(np.full((9, 2), 0.5))
    with pytest.raises(ValueError, match="band must be asked of numbers, got 2 classes"):
        classes.band(np.zeros(9))
    with pytest.raises(ValueError, match="must have 2 classes, got 3"):
        classes.sets(np.full((9, 3), 0.3))
    with pytest.raises(ValueError, match="scale must be None"):
        numbers.band(np.zeros(9), scale=np.ones(9))
