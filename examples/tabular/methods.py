"""The models: rnam.NAM as a scikit-learn estimator, a linear model, and interpret's EBM.

Each is fitted to rows of a table and predicts others: the log-odds of 1, or the target in its unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import LRScheduler

import rnam
from examples import ebm
from examples.tabular.data import Data, Floats, Indices
from rnam.sklearn import AdditiveBinaryClassifier, AdditiveRegressor


class Fitted(Protocol):
    """What every method gives."""

    def predict(self, values: Floats) -> Floats:
        """(rows, terms) in units -> (rows,)."""
        ...


@dataclass(frozen=True)
class Settings:
    """Of the NAM, for both tables; chosen on the seeds 10, 11 and 12."""

    hidden: tuple[int, ...] = (16,)
    epochs: int = 30
    batch: int = 32  # rows in a step
    learning_rate: float = 1e-2  # at first; it falls to 0 along a cosine
    weight_decay: float = 0.1


class Nam:
    """rnam.NAM on standardised values, and on a standardised target where that is a number.

    Every random number comes from the seed; torch's own state is left as it was.
    """

    def __init__(self, data: Data, rows: Indices, seed: int, settings: Settings) -> None:
        kind = AdditiveBinaryClassifier if data.binary else AdditiveRegressor
        net = kind(
            rnam.NAM,
            module__terms=len(data.terms),
            module__hidden=settings.hidden,
            optimizer=torch.optim.AdamW,
            optimizer__weight_decay=settings.weight_decay,
            lr=settings.learning_rate,
            max_epochs=settings.epochs,
            batch_size=settings.batch,
            iterator_train__shuffle=True,
            train_split=None,
            callbacks=[("cosine", LRScheduler("CosineAnnealingLR", T_max=settings.epochs))],
            verbose=0,
        )
        target = data.target[rows]
        self.offset, self.scale = (0.0, 1.0) if data.binary else (float(target.mean()), float(target.std()))
        self.pipeline = make_pipeline(StandardScaler(), net)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            standardised = ((target - self.offset) / self.scale).astype(np.int64 if data.binary else np.float32)
            self.pipeline.fit(data.values[rows], standardised)

    @property
    def model(self) -> rnam.NAM:
        model: rnam.NAM = self.pipeline[-1].module_
        return model

    def encode(self, values: Floats) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model is given for values in units: input and mask, (rows, terms)."""
        return torch.tensor(self.pipeline[0].transform(values), dtype=torch.float32), torch.tensor(np.isfinite(values))

    def predict(self, values: Floats) -> Floats:
        with torch.no_grad():
            prediction, _ = self.model.eval()(*self.encode(values))
        return self.offset + self.scale * prediction[:, 0].double().numpy()


class Linear:
    """Logistic or ridge regression on standardised values; its penalty is chosen by 5-fold cross-validation."""

    def __init__(self, data: Data, rows: Indices) -> None:
        strengths = np.logspace(-3, 3, 13)
        if data.binary:
            regression, grid = LogisticRegression(max_iter=5000), {"logisticregression__C": strengths}
        else:
            regression, grid = Ridge(), {"ridge__alpha": strengths}
        scoring = "neg_log_loss" if data.binary else "neg_mean_squared_error"
        self.search = GridSearchCV(make_pipeline(StandardScaler(), regression), grid, scoring=scoring)
        self.search.fit(data.values[rows], data.target[rows])
        self.ask = self.search.decision_function if data.binary else self.search.predict

    def predict(self, values: Floats) -> Floats:
        return np.asarray(self.ask(values), np.float64)


class Ebm:
    """interpret's EBM without interactions."""

    def __init__(self, data: Data, rows: Indices, seed: int) -> None:
        target = data.target[rows].astype(np.int64 if data.binary else np.float64)
        self.model: Any = ebm.fit(data.values[rows], target, data.terms, seed, binary=data.binary)
        self.ask = self.model.decision_function if data.binary else self.model.predict

    def predict(self, values: Floats) -> Floats:
        return np.asarray(self.ask(values), np.float64)


NAM, LINEAR, EBM = "NAM", "logistic or ridge regression", "EBM"

METHODS: dict[str, Callable[[Data, Indices, int, Settings], Fitted]] = {
    NAM: Nam,
    LINEAR: lambda data, rows, seed, settings: Linear(data, rows),
    EBM: lambda data, rows, seed, settings: Ebm(data, rows, seed),
}
