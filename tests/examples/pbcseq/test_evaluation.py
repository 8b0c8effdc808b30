"""Scores against hand-made examples, the regression, the folds put together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from examples.pbcseq import data, evaluation, training


def test_scores_by_hand():
    probability = np.array([0.9, 0.6, 0.4, 0.2])
    positive, weight = np.array([True, False, True, False]), np.array([1.0, 2.0, 3.0, 4.0])
    got = evaluation.scores(probability, positive, weight)
    # pairs (positive, negative), in order of rank: 1*2 + 1*4 + 3*4 of (1 + 3) * (2 + 4)
    assert got.auc == pytest.approx(18 / 24)
    error = (1 * 0.01 + 2 * 0.36 + 3 * 0.36 + 4 * 0.04) / 10
    assert got.brier_skill == pytest.approx(1 - error / (0.4 * 0.6))


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_calibration_slope_is_one_where_the_probabilities_are_the_rates(factor):
    rate = np.array([0.1, 0.3, 0.5, 0.9])
    probability = np.repeat(1 / (1 + np.exp(-factor * np.log(rate / (1 - rate)))), 2)
    positive, weight = np.tile([True, False], 4), np.stack([rate, 1 - rate], 1).ravel()
    slope = evaluation.scores(probability, positive, weight).calibration_slope
    assert slope == pytest.approx(1 / factor, rel=1e-8)


def test_the_regression_learns_from_the_training_people_alone(people, trained):
    fold = trained[1][0]
    before = evaluation.logistic_regression(people, fold)
    positive, weight = fold.positive.copy(), fold.weight.copy()
    positive[fold.test], weight[fold.test] = ~positive[fold.test], 5
    after = evaluation.logistic_regression(people, replace(fold, positive=positive, weight=weight))
    np.testing.assert_array_equal(before, after)
    assert before.shape == (len(fold.test), 16)


def test_every_prediction_is_out_of_fold_and_contributions_explain_it(people, trained):
    settings, made, progress = trained
    result = evaluation.out_of_fold(people, made, settings, progress, torch.device("cpu"))
    for number, fold in enumerate(made):
        odds, _ = training.log_odds(settings, [progress.finished[number]], fold.inputs, torch.device("cpu"))
        np.testing.assert_allclose(result.probability[fold.test], 1 / (1 + np.exp(-odds[fold.test])))
    base = np.log(result.baseline / (1 - result.baseline))[:, None]
    odds = np.log(result.probability / (1 - result.probability))
    # float32 log-odds and contributions: as above
    np.testing.assert_allclose(base + result.contributions.sum(0), odds, atol=16 * 64 * 2**-24)
    np.testing.assert_array_equal(result.weight > 0, data.outcome(people)[1])


def test_the_regression_knows_neither_times_nor_history(people, trained):
    """Last values alone: other days, and other values that are measured again later, leave the last visits be."""
    fold = trained[1][0]
    values = people.values.copy()
    last = np.arange(values.shape[2]) == people.length[:, None] - 1
    again = (np.cumsum(np.isfinite(values)[:, :, ::-1], axis=2)[:, :, ::-1] > 1) & ~last
    again[:, fold.train] = False
    values[again] *= 1.5
    changed = replace(people, values=values, day=people.day * 2)
    before, after = (evaluation.logistic_regression(cohort, fold) for cohort in (people, changed))
    visits = last[fold.test]
    np.testing.assert_array_equal(before[visits], after[visits])
    assert (before != after).any()
    odds = [
        training.log_odds(trained[0], trained[2].finished[:1], fold.scaler.inputs(cohort), torch.device("cpu"))[0]
        for cohort in (people, changed)
    ]
    assert (odds[0][fold.test][visits] != odds[1][fold.test][visits]).sum() > 100, "the model knows both"
    assert "not the times" in evaluation.logistic_regression.__doc__
