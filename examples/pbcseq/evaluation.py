"""Predictions of people whom the models did not see, and how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas
from sklearn.metrics import roc_auc_score

import rnam
from examples.pbcseq.data import COLUMNS, TIMING, Floats, Fold
from rnam import explain


class OutOfFold(NamedTuple):
    """probability, baseline (visits,): of the outcome, and where every contribution is at its mean over the training
    visits. contributions: to the log-odds, minus that mean, a column for each term and a row for each visit."""

    probability: Floats
    contributions: pandas.DataFrame
    baseline: Floats


def out_of_fold(made: Sequence[Fold], models: Sequence[rnam.RNAMClassifier]) -> OutOfFold:
    """Put the folds together."""
    visits, names = len(made[0].is_test), [*COLUMNS, TIMING.column]
    contributions, mean_odds = np.zeros((visits, len(names))), np.zeros(visits)
    for fold, model in zip(made, models, strict=True):
        mean = model.contributions(fold.train)[names].to_numpy().mean(0)
        contributions[fold.is_test] = model.contributions(fold.test)[names].to_numpy() - mean
        mean_odds[fold.is_test] = model.intercept_[0] + mean.sum()
    probability, baseline = (1 / (1 + np.exp(-odds)) for odds in (mean_odds + contributions.sum(1), mean_odds))
    return OutOfFold(probability, pandas.DataFrame(contributions, columns=names), baseline)


def scores(frame: pandas.DataFrame, made: Sequence[Fold], probability: Floats) -> dict[str, float]:
    """Of out-of-fold probabilities (visits,), each visit with the weight of its fold.

    auc                1 is perfect ranking, 0.5 chance
    brier_skill        1 - squared error / that of the overall weighted rate: 1 is perfect, 0 says the rate
    calibration_slope  of the outcome's log-odds on the predicted ones: 1 is right, below 1 overconfident
    observed_expected  the weighted number of outcomes over the sum of the probabilities: 1 is right
    """
    weight = np.sum([fold.is_test * fold.weight for fold in made], axis=0)
    known = weight > 0
    p, w, positive = probability[known], weight[known], frame["outcome"].to_numpy()[known] == 1
    inside = np.clip(p, 1e-7, 1 - 1e-7)
    return {
        "auc": float(roc_auc_score(positive, p, sample_weight=w)),
        "brier_skill": explain.brier_skill(p, positive, w),
        "calibration_slope": explain.calibration_slope(np.log(inside / (1 - inside)), positive, w),
        "observed_expected": explain.observed_expected(p, positive, w),
    }
