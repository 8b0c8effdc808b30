"""What the models are held against: regressions and boosting that see no sequence, only what was made of it.

Each predicts at every visit, from that visit and earlier ones, trained on all visits of the training people.
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from examples.plasmode.data import Cohort
from examples.plasmode.training import Task
from examples.sequences import Floats, carried_forward


def last_values(task: Task, people: Cohort) -> Floats:
    """(visits, columns): the last standardised value of each lab, and the facts; NaN where there is none."""
    labs, facts = task.scaler.values(people)
    last = carried_forward(labs)[:, people.is_visit()]
    return np.concatenate([last.T, np.repeat(facts, people.length, axis=0)], axis=1)


def summaries(task: Task, people: Cohort) -> Floats:
    """(visits, columns): those of `last_values`, and of each lab the mean, the smallest and largest value and the
    number of values so far."""
    labs, visits = task.scaler.values(people)[0], people.is_visit()
    measured = np.isfinite(labs)
    count = measured.cumsum(-1)
    ever = count > 0
    mean = np.where(measured, labs, 0).cumsum(-1) / np.maximum(count, 1)
    least = np.minimum.accumulate(np.where(measured, labs, np.inf), axis=-1)
    most = np.maximum.accumulate(np.where(measured, labs, -np.inf), axis=-1)
    further = [np.where(ever, a, np.nan)[:, visits].T for a in (mean, least, most)]
    return np.concatenate([last_values(task, people), *further, count[:, visits].T], axis=1)


def predict(task: Task) -> dict[str, Floats]:
    """The probability of the outcome at each visit of the test people, by the name of the baseline."""
    positive = task.positive_train[task.train.is_visit()]
    last, summed = (tuple(f(task, people) for people in (task.train, task.test)) for f in (last_values, summaries))
    boosting = HistGradientBoostingClassifier(random_state=task.settings.seed)
    fitted = {
        "regression on last values": (_regression(), last),
        "regression on summaries": (_regression(), summed),
        "boosting on summaries": (boosting, summed),
    }
    return {name: f.fit(train, positive).predict_proba(test)[:, 1] for name, (f, (train, test)) in fitted.items()}


def _regression() -> Pipeline:
    """Logistic regression, where what is missing is the median, and a column says that it was."""
    return make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True), StandardScaler(), LogisticRegression(max_iter=1000)
    )
