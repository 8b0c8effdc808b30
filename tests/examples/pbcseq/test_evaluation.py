"""Scores against hand-made examples, the folds put together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest

from examples.pbcseq import data, evaluation
from examples.pbcseq.compare import methods
from tests.examples.pbcseq.support import measured_again
from tests.support.assertions import assert_equal, assert_within


def scored(probability: Any, positive: Any, weight: Any) -> dict[str, float]:
    """Of two folds, of which each tests every second visit; weights of the others are not read."""
    is_test = np.arange(len(probability)) % 2 == 0
    none: Any = None
    made = [data.Fold(none, none, own, np.where(own, weight, 99.0)) for own in (is_test, ~is_test)]
    return evaluation.scores(pandas.DataFrame({"outcome": np.asarray(positive, float)}), made, np.asarray(probability))


def test_scores_by_hand() -> None:
    got = scored([0.9, 0.6, 0.4, 0.2, 0.5], [True, False, True, False, np.nan], [1.0, 2.0, 3.0, 4.0, 0.0])
    # pairs (positive, negative), in order of rank: 1*2 + 1*4 + 3*4 of (1 + 3) * (2 + 4)
    assert got["auc"] == pytest.approx(18 / 24)
    error = (1 * 0.01 + 2 * 0.36 + 3 * 0.36 + 4 * 0.04) / 10
    assert got["brier_skill"] == pytest.approx(1 - error / (0.4 * 0.6))


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_calibration_slope_is_one_where_the_probabilities_are_the_rates(factor: float) -> None:
    rate = np.array([0.1, 0.3, 0.5, 0.9])
    probability = np.repeat(1 / (1 + np.exp(-factor * np.log(rate / (1 - rate)))), 2)
    weight = np.stack([rate, 1 - rate], 1).ravel()
    assert scored(probability, [True, False] * 4, weight)["calibration_slope"] == pytest.approx(1 / factor, rel=1e-8)


def test_every_prediction_is_out_of_fold_and_contributions_explain_it(made: Any, models: Any, result: Any) -> None:
    for fold, model in zip(made, models, strict=True):
        told = model.predict_proba(fold.test)[1.0].to_numpy()
        # a sum of 16 float32 contributions below 4 in another order
        assert_within("probability", result.probability[fold.is_test], told, 16 * 64 * 2**-24)
    base, odds = (np.log(p / (1 - p)) for p in (result.baseline, result.probability))
    assert_within("log-odds", base + result.contributions.sum(axis=1).to_numpy(), odds, 1e-12 * 64)
    assert list(result.contributions) == [*data.COLUMNS, "timing"]


def test_the_regression_learns_from_the_training_people_alone(visits: Any, made: Any) -> None:
    fold = made[0]
    before = methods.baseline(methods.LAST, visits, [fold], 0)
    outcome = np.where(fold.is_test, 1 - visits["outcome"], visits["outcome"])
    changed = fold._replace(weight=np.where(fold.is_test, 5, fold.weight))
    assert_equal("probability", methods.baseline(methods.LAST, visits.assign(outcome=outcome), [changed], 0), before)
    assert ((before > 0) == fold.is_test).all()


def test_the_regression_knows_neither_times_nor_history(visits: Any, made: Any, models: Any) -> None:
    """Last values alone: other days, and other values that are measured again later, leave the last visits be."""
    fold = made[0]
    again = measured_again(visits) & fold.is_test[:, None]
    changed = visits.copy()
    changed[again.columns] = visits[again.columns].where(~again, 1.5 * visits[again.columns])
    changed["day"] *= 2
    last = fold.is_test & ~visits["id"].duplicated(keep="last").to_numpy()
    before, after = (methods.baseline(methods.LAST, frame, [fold], 0) for frame in (visits, changed))
    assert_equal("last visits", after[last], before[last])
    assert (before != after).any()
    odds = [
        models[0].decision_function(data.panel(frame[fold.is_test])).to_numpy()[last[fold.is_test]]
        for frame in (visits, changed)
    ]
    assert (odds[0] != odds[1]).sum() > 100, "the model knows both"
