"""What the Friedman model is held against: methods that see no sequence, only its last values or what sums it up.

Each predicts the target of the last step; the model with T = 1 learns from every step that the recurrent one learns
from, each a sequence of one step.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from torch import Tensor

from examples.friedman_data import Samples

RECENT = 16  # steps: what an average with decay 0.95 weighs most lies within


def one_step(samples: Samples) -> Samples:
    """Every step that has a target as a sequence of its own. The truth stays that of the last steps."""
    last = samples.target.shape[1]
    steps = samples.inputs[:, :, -last:]
    return replace(samples, inputs=steps.reshape(len(steps), -1, 1, 1), target=samples.target.reshape(-1, 1))


def at_the_end(samples: Samples) -> Samples:
    """The last step of each sequence alone."""
    return replace(samples, inputs=samples.inputs[:, :, -1:])


def errors(training: Samples, validation: Samples, seed: int) -> dict[str, float]:
    """The squared error at the last step of the validation sequences, by the name of the baseline."""
    y, truth = (samples.target[:, -1].double().cpu().numpy() for samples in (training, validation))
    last, summed = (tuple(f(samples.inputs) for samples in (training, validation)) for f in (_last, _summaries))
    found = {
        "ridge regression, last values": (RidgeCV(np.logspace(-3, 3, 13)), last),
        "ridge regression, summaries": (RidgeCV(np.logspace(-3, 3, 13)), summed),
        "gradient boosting, summaries": (HistGradientBoostingRegressor(random_state=seed % 2**32), summed),
    }
    return {
        name: float(np.square(method.fit(train, y).predict(test) - truth).mean())
        for name, (method, (train, test)) in found.items()
    }


def _last(inputs: Tensor) -> NDArray[np.float64]:
    """(sequences, terms)"""
    return np.asarray(inputs[:, :, -1, 0].T.double().cpu())


def _summaries(inputs: Tensor) -> NDArray[np.float64]:
    """(sequences, columns): of each term the last value, the mean, least and largest, and the mean of recent steps."""
    x = inputs[..., 0].double()
    parts = (x[..., -1], x.mean(-1), x.amin(-1), x.amax(-1), x[..., -RECENT:].mean(-1))
    return np.asarray(torch.cat(parts).T.cpu())
