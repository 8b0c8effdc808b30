"""What is scored, over the rows of all folds of a seed, each predicted by models that never saw it."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import brier_score_loss, r2_score, roc_auc_score, root_mean_squared_error

from examples.tabular.data import Data, Floats
from rnam import explain

# name -> heading; of log-odds, and of numbers
BINARY = {"auc": "AUC", "brier": "Brier score", "slope": "calibration slope"}
NUMBER = {"r2": "R²", "rmse": "RMSE"}


def headings(data: Data) -> dict[str, str]:
    return BINARY if data.binary else NUMBER


def scores(data: Data, prediction: Floats) -> dict[str, float]:
    """Of out-of-fold predictions (rows,): log-odds, or the target in its unit.

    AUC: 1 is perfect ranking. Brier score: the mean squared error of the probability, 0 is perfect. Slope: of the
    outcome's log-odds on the predicted ones; 1 is right, below 1 overconfident. R²: 1 is perfect, 0 no better than the
    mean. RMSE: in the target's unit.
    """
    if data.binary:
        probability = np.exp(-np.logaddexp(0, -prediction))
        return {
            "auc": float(roc_auc_score(data.target, prediction)),
            "brier": float(brier_score_loss(data.target, probability)),
            "slope": explain.calibration_slope(prediction, data.target),
        }
    return {
        "r2": float(r2_score(data.target, prediction)),
        "rmse": float(root_mean_squared_error(data.target, prediction)),
    }
