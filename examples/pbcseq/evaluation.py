"""How good are the probabilities of people the models were not trained on, and those of a regression?

Every score is over visits with their censoring weights, all folds pooled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from examples.pbcseq.data import Bools, Cohort, Floats, last_values
from examples.pbcseq.training import Fold, Progress, Settings, log_odds
from rnam import explain


@dataclass(frozen=True)
class OutOfFold:
    """What the models of each fold say about the people they were not trained on.

    probability   (people, seq) of the outcome, at each visit; meaningless at padding
    contributions (terms, people, seq) to the log-odds, minus the term's mean over the training visits
    baseline      (people,) the probability where every contribution is at that mean
    regression    (people, seq) the logistic regression's probability
    positive      (people, seq) the outcome
    weight        (people, seq) the censoring weight; 0 at padding and where the outcome is not known
    """

    probability: Floats
    contributions: Floats
    baseline: Floats
    regression: Floats
    positive: Bools
    weight: Floats

    def scores(self, probability: Floats) -> Scores:
        """The scores of `probability` or `regression`."""
        known = self.weight > 0
        return scores(probability[known], self.positive[known], self.weight[known])


def out_of_fold(
    people: Cohort, made: list[Fold], settings: Settings, progress: Progress, device: torch.device
) -> OutOfFold:
    """Put the folds together. Every model of `progress` is finished."""
    is_visit, shape = people.is_visit(), people.day.shape
    probability, regression, weight = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    contributions, baseline = np.zeros(people.values.shape), np.zeros(shape[0])
    for number, fold in enumerate(made):
        models = progress.finished[number * settings.members : (number + 1) * settings.members]
        predicted, parts = log_odds(settings, models, fold.inputs, device)
        mean = parts[:, fold.train][:, is_visit[fold.train]].mean(1)
        centred = parts[:, fold.test] - mean[:, None, None]
        probability[fold.test] = sigmoid(predicted[fold.test])
        contributions[:, fold.test] = centred
        baseline[fold.test] = sigmoid(predicted[fold.test, 0] - centred[:, :, 0].sum(0))
        regression[fold.test] = logistic_regression(people, fold)
        weight[fold.test] = fold.weight[fold.test]
    return OutOfFold(probability, contributions, baseline, regression, made[0].positive, weight)


class Scores(NamedTuple):
    """auc: 1 is perfect ranking, 0.5 chance.
    brier_skill: 1 - squared error / that of the overall weighted rate; 1 is perfect, 0 says the rate.
    calibration_slope: of the outcome's log-odds on the predicted ones; 1 is right, below 1 overconfident.
    observed_expected: the weighted number of outcomes over the sum of the probabilities; 1 is right.
    """

    auc: float
    brier_skill: float
    calibration_slope: float
    observed_expected: float


def scores(probability: Floats, positive: Bools, weight: Floats) -> Scores:
    """The scores of visits of weight > 0, of both outcomes; each argument is (visits,)."""
    p = np.clip(probability, 1e-7, 1 - 1e-7)
    return Scores(
        auc=float(roc_auc_score(positive, probability, sample_weight=weight)),
        brier_skill=explain.brier_skill(probability, positive, weight),
        calibration_slope=explain.calibration_slope(np.log(p / (1 - p)), positive, weight),
        observed_expected=explain.observed_expected(probability, positive, weight),
    )


def logistic_regression(people: Cohort, fold: Fold) -> Floats:
    """Probabilities (test people, seq) of a logistic regression on the last value of every term.

    It sees the same standardised (log) values with the same weights, at each visit the last one measured (the
    training visits' median where there is none); not the times of the visits nor the values before the last.
    """
    last = last_values(people, fold.scaler)
    used = fold.weight[fold.train] > 0
    last = np.where(np.isfinite(last), last, np.nanmedian(last[fold.train][used], axis=0))
    regression = LogisticRegression(max_iter=1000)
    regression.fit(
        last[fold.train][used],
        fold.positive[fold.train][used],
        sample_weight=fold.weight[fold.train][used],
    )
    rows = last[fold.test]
    flat: Floats = regression.predict_proba(rows.reshape(-1, rows.shape[-1]))[:, 1]
    return flat.reshape(rows.shape[:2])


def sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))
