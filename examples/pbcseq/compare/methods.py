"""The baselines, on the demo's folds, targets and weights, and RNAM on single visits.

The settings of the regression on summaries and of the boosting were chosen on the seeds 10, 11 and 12, with other folds
of the same people; the others have their packages' settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import rnam
from examples import ebm
from examples.pbcseq.compare.summaries import summaries
from examples.pbcseq.data import COLUMNS, TERMS, TIMING, Floats, Fold, logged, panel
from examples.pbcseq.models import Settings

LAST = "logistic regression, last values"
VALIDATION = 0.15  # of the people in a bag, on whom its boosting stops; interpret's default, of rows


@dataclass(frozen=True)
class Rows:
    """Visits of training people whose outcome is known: values (rows, features), the rest (rows,)."""

    values: Floats
    positive: NDArray[np.bool_]
    weight: Floats
    person: NDArray[np.int64]


Fit = Callable[[Rows, int], Any]  # rows and seed -> what has predict_proba
Features = Callable[[pandas.DataFrame, Fold], Floats]  # (visits, features)
Baseline = Callable[[pandas.DataFrame, Fold, int], Floats]  # probabilities (test visits,)


def fitted(fit: Fit, features: Features) -> Baseline:
    """A baseline: from visits, fold and seed to probabilities."""

    def probabilities(frame: pandas.DataFrame, fold: Fold, seed: int) -> Floats:
        values, used = features(frame, fold), ~fold.is_test & (fold.weight > 0)
        positive, person = frame["outcome"].to_numpy()[used] == 1, frame["id"].to_numpy()[used]
        model = fit(Rows(values[used], positive, fold.weight[used], person), seed)
        return np.asarray(model.predict_proba(values[fold.is_test])[:, 1], np.float64)

    return probabilities


def last_values(frame: pandas.DataFrame, fold: Fold) -> Floats:
    """(visits, terms): the last value of each term so far, standardised over the training visits; NaN before the
    first."""
    values = logged(frame)
    measured = values.loc[~fold.is_test, COLUMNS]
    last = values.groupby("id")[COLUMNS].ffill()
    return np.asarray((last - measured.mean()) / measured.std(ddof=0))


def all_summaries(frame: pandas.DataFrame, fold: Fold) -> Floats:
    return summaries(frame).to_numpy()


def fit_last(rows: Rows, seed: int) -> Any:
    """Logistic regression; the median of the training visits where a value is missing. It draws nothing."""
    model = make_pipeline(SimpleImputer(strategy="median"), LogisticRegression(max_iter=1000))
    return model.fit(rows.values, rows.positive, logisticregression__sample_weight=rows.weight)


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


BASELINES: dict[str, Baseline] = {
    LAST: fitted(fit_last, last_values),
    "logistic regression, summaries": fitted(fit_logistic, all_summaries),
    "gradient boosting, summaries": fitted(fit_boosting, all_summaries),
    "EBM, last values": fitted(fit_ebm, last_values),
}


def baseline(
    name: str, frame: pandas.DataFrame, made: Sequence[Fold], seed: int, advance: Callable[[], object] = lambda: None
) -> Floats:
    """Out-of-fold probabilities (visits,) of one of BASELINES; `advance` is called after each fold."""
    probability = np.zeros(len(frame))
    for fold in made:
        probability[fold.is_test] = BASELINES[name](frame, fold, seed)
        advance()
    return probability


def single_visits(frame: pandas.DataFrame, made: Sequence[Fold]) -> list[Fold]:
    """The folds with each visit as a sequence of one step, which shows the last value of each term so far and the years
    since the previous visit, 0 at the first. All that came before is lost."""
    last = frame.groupby("id")[COLUMNS].ffill()
    alone = frame.assign(**last, **{TIMING.column: frame[TIMING.column].fillna(0)}, visit=np.arange(len(frame)))
    values = [term.column for term in (*TERMS, TIMING) if not term.static]
    whole = panel(alone, id="visit", values=values)
    return [
        fold._replace(train=whole.take(np.flatnonzero(~fold.is_test)), test=whole.take(np.flatnonzero(fold.is_test)))
        for fold in made
    ]


def single_model(frame: pandas.DataFrame, settings: Settings, device: torch.device) -> rnam.RNAMClassifier:
    """The demo's model for such folds, with as many steps of the optimizer. Nothing is left to remember."""
    batch = round(settings.batch * len(frame) / frame["id"].nunique())
    return settings.model(device).set_params(timing=False, continuous=False, timescales=None, batch_size=batch)
