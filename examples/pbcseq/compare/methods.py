"""The baselines, on the demo's folds, targets and weights, and RNAM on single visits.

The settings of the regression on summaries and of the boosting were chosen as the model's were, on the seeds 10, 11
and 12; the others have their packages' settings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from examples import ebm
from examples.pbcseq.compare.summaries import summaries
from examples.pbcseq.data import Cohort, Floats, Inputs, Scaler, last_values
from examples.pbcseq.evaluation import logistic_regression
from examples.pbcseq.training import Fold, Settings

VALIDATION = 0.15  # of the people in a bag, on whom its boosting stops; interpret's default, of rows


@dataclass(frozen=True)
class Rows:
    """Visits of training people whose outcome is known: values (rows, features), the rest (rows,)."""

    values: Floats
    positive: NDArray[np.bool_]
    weight: Floats
    person: NDArray[np.int64]


Fit = Callable[[Rows, int], Any]  # rows and seed -> what has predict_proba
Features = Callable[[Cohort, Scaler], Floats]


def fitted(fit: Fit, features: Features) -> Callable[[Cohort, Fold, int], Floats]:
    """A baseline: from people, fold and seed to probabilities (test people, seq)."""

    def probabilities(people: Cohort, fold: Fold, seed: int) -> Floats:
        values = features(people, fold.scaler)
        used = fold.weight[fold.train] > 0
        person = np.broadcast_to(fold.train[:, None], used.shape)
        model = fit(
            Rows(
                values[fold.train][used],
                fold.positive[fold.train][used],
                fold.weight[fold.train][used],
                person[used],
            ),
            seed,
        )
        at_padding = 0  # any number, so that no padding is taken for a missing value
        shown = np.where(people.is_visit()[fold.test][..., None], values[fold.test], at_padding)
        flat = model.predict_proba(shown.reshape(-1, shown.shape[-1]))[:, 1]
        return np.asarray(flat, np.float64).reshape(shown.shape[:2])

    return probabilities


def fit_logistic(rows: Rows, seed: int) -> Any:
    """Logistic regression on standardised columns; the median where a value is missing. It draws nothing."""
    regression = LogisticRegression(C=0.01, max_iter=1000)
    model = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), regression)
    return model.fit(rows.values, rows.positive, logisticregression__sample_weight=rows.weight)


def fit_boosting(rows: Rows, seed: int) -> Any:
    """scikit-learn's gradient boosting on histograms, which takes missing values as they are."""
    model = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=100, max_leaf_nodes=4, l2_regularization=1.0, max_bins=32,  # 255 are slow to find
        early_stopping=False, random_state=seed,
    )  # fmt: skip
    return model.fit(rows.values, rows.positive, sample_weight=rows.weight)


def fit_ebm(rows: Rows, seed: int) -> Any:
    """interpret's EBM; its bags are drawn by person.

    With its own bags, of visits, those on which its boosting stops are of people whom it is trained on.
    """
    names = [str(column) for column in range(rows.values.shape[1])]
    bags = bags_by_person(rows.person, seed)
    return ebm.fit(rows.values, rows.positive, names, seed, binary=True, sample_weight=rows.weight, bags=bags)


def bags_by_person(person: NDArray[np.int64], seed: int) -> NDArray[np.int8]:
    """(rows, ebm.BAGS), as interpret takes them: 1 for training, -1 for validation; a person's rows share theirs."""
    people, row = np.unique(person, return_inverse=True)
    bags = np.ones((ebm.BAGS, len(people)), np.int8)
    rng = np.random.default_rng(seed)
    for bag in bags:
        bag[rng.permutation(len(people))[: round(VALIDATION * len(people))]] = -1
    return bags[:, row].T


BASELINES: dict[str, Callable[[Cohort, Fold, int], Floats]] = {
    "logistic regression, last values": lambda people, fold, seed: logistic_regression(people, fold),
    "logistic regression, summaries": fitted(fit_logistic, summaries),
    "gradient boosting, summaries": fitted(fit_boosting, summaries),
    "EBM, last values": fitted(fit_ebm, last_values),
}


def single_visits(people: Cohort, fold: Fold, settings: Settings) -> tuple[Fold, Settings]:
    """A fold in which every visit is a sequence of one step, and the settings for as many steps of the optimizer.

    Each term shows its last measured step as the model with a memory has read it, value and time since the visit
    before. What is lost is all that came before that step.

    Returns:
        The fold: `train` and `test` are indices of visits, person by person; (visits, 1) where it had (people, seq).
        The settings: as many visits in a step as people have on average.
    """
    is_visit = people.is_visit()
    visit = np.full(is_visit.shape, -1)
    visit[is_visit] = np.arange(is_visit.sum())

    def of(persons: NDArray[np.int64]) -> NDArray[np.int64]:
        return visit[persons][is_visit[persons]]

    alone = replace(
        fold,
        train=of(fold.train),
        test=of(fold.test),
        inputs=last_steps(fold.inputs, torch.tensor(is_visit)),
        positive=fold.positive[is_visit][:, None],
        weight=fold.weight[is_visit][:, None],
    )
    return alone, replace(settings, batch=round(settings.batch * is_visit.sum() / len(people.id)))


def last_steps(inputs: Inputs, is_visit: Tensor) -> Inputs:
    """The last measured step of each term at each visit, as sequences of one step, masked before the first."""
    step = torch.where(inputs.mask, torch.arange(inputs.mask.shape[2]), -1).cummax(2).values
    seen = (step >= 0) & is_visit
    index = step.clamp(min=0)[..., None].expand(-1, -1, -1, inputs.input.shape[3])
    shown = torch.where(seen[..., None], inputs.input.gather(2, index), 0)
    length = torch.ones(int(is_visit.sum()), dtype=inputs.length.dtype)
    return Inputs(shown[:, is_visit][:, :, None], seen[:, is_visit][:, :, None], length)
