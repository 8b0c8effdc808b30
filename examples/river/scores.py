"""Scores of predictions of days whose block of time no part of the model saw, of all blocks together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import r2_score

from examples.river.data import Floats
from rnam import explain

LEVEL = 0.9
AHEAD = {"r2": "R²", "nse": "NSE of flow", "slope": "slope"}
HEADINGS = {**AHEAD, "coverage": "in 90% band", "least": "worst block", "width": "band", "cpu": "CPU s"}


def scores(log_flow: Sequence[Floats], predicted: Sequence[Floats], cpu: float) -> dict[str, float]:
    """Of blocks of days, each (days,), and the CPU seconds of all that was fitted.

    r2, slope: of the log flow; the slope is that of the measured on the predicted one, 1 is right. nse: Nash and
    Sutcliffe's efficiency of the flow in m³/s, which is R² of it. coverage: the share of days in a band of 90%, made
    from the other blocks; least: that of the worst block; width: the upper end over the lower one. Days are pooled:
    five blocks are too few for a band that promises something for a new block. One block alone has no band.
    """
    y, told = np.concatenate(log_flow), np.concatenate(predicted)
    found = {
        "r2": float(r2_score(y, told)),
        "nse": float(r2_score(np.exp(y), np.exp(told))),
        "slope": float(np.polyfit(told, y, 1)[0]),
        "cpu": cpu,
    }
    if len(predicted) > 1:
        covered, width = [], []
        for n, (flow, own) in enumerate(zip(log_flow, predicted, strict=True)):
            others = [np.concatenate([*some[:n], *some[n + 1 :]]) for some in (predicted, log_flow)]
            bands = explain.conformal(*others, level=LEVEL)
            covered.append(bands.coverage(own, flow).shares)
            width.append(2 * bands.threshold)
        found["coverage"], found["least"] = np.concatenate(covered).mean().item(), min(map(np.mean, covered)).item()
        found["width"] = float(np.exp(np.mean(width)))
    return found
