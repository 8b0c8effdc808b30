"""The models: RNAM's estimators for tables, a linear model, and interpret's EBM.

Each is fitted to rows of a table and predicts others: the log-odds of 1, or the target in its unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import rnam
from examples import ebm
from examples.tabular.data import Data, Floats, Indices


class Fitted(Protocol):
    """The result of every method."""

    def predict(self, values: pandas.DataFrame) -> Floats:
        """A frame (rows, terms) in units -> (rows,)."""
        ...


@dataclass(frozen=True)
class Settings:
    """Of the NAM; None is the estimator's own default."""

    epochs: int | None = None


class Nam:
    """`rnam.NAMClassifier` or `rnam.NAMRegressor` as it comes."""

    def __init__(self, data: Data, rows: Indices, seed: int, settings: Settings) -> None:
        kind = rnam.NAMClassifier if data.binary else rnam.NAMRegressor
        given = {} if settings.epochs is None else {"max_epochs": settings.epochs}
        self.model: Any = kind(random_state=seed, verbose=0, **given)
        self.model.fit(data.values.iloc[rows], data.target[rows])
        self.ask = self.model.decision_function if data.binary else self.model.predict

    def predict(self, values: pandas.DataFrame) -> Floats:
        return np.asarray(self.ask(values), np.float64)


class Linear:
    """Logistic or ridge regression on standardised values and levels; its penalty is chosen by 5-fold
    cross-validation."""

    def __init__(self, data: Data, rows: Indices) -> None:
        strengths = np.logspace(-3, 3, 13)
        if data.binary:
            regression, grid = LogisticRegression(max_iter=5000), {"logisticregression__C": strengths}
        else:
            regression, grid = Ridge(), {"ridge__alpha": strengths}
        scoring = "neg_log_loss" if data.binary else "neg_mean_squared_error"
        columns = make_column_transformer(
            (OneHotEncoder(drop="if_binary", handle_unknown="ignore"), list(data.words)), remainder=StandardScaler()
        )
        self.search = GridSearchCV(make_pipeline(columns, regression), grid, scoring=scoring)
        self.search.fit(data.values.iloc[rows], data.target[rows])
        self.ask = self.search.decision_function if data.binary else self.search.predict

    def predict(self, values: pandas.DataFrame) -> Floats:
        return np.asarray(self.ask(values), np.float64)


class Ebm:
    """interpret's EBM, without interactions or as it comes."""

    def __init__(self, data: Data, rows: Indices, seed: int, interactions: int | str = 0) -> None:
        target = data.target[rows].astype(np.int64 if data.binary else np.float64)
        self.model: Any = ebm.fit(
            data.values.iloc[rows], target, data.terms, seed,
            binary=data.binary, words=data.words, interactions=interactions,
        )  # fmt: skip
        self.ask = self.model.decision_function if data.binary else self.model.predict

    def predict(self, values: pandas.DataFrame) -> Floats:
        return np.asarray(self.ask(values), np.float64)


NAM, LINEAR, EBM, WITH_PAIRS = "NAM", "logistic or ridge regression", "EBM", "EBM with interactions"

METHODS: dict[str, Callable[[Data, Indices, int, Settings], Fitted]] = {
    NAM: Nam,
    LINEAR: lambda data, rows, seed, settings: Linear(data, rows),
    EBM: lambda data, rows, seed, settings: Ebm(data, rows, seed),
    WITH_PAIRS: lambda data, rows, seed, settings: Ebm(data, rows, seed, "3x"),
}
