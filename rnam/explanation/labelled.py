"""The labels of an explained panel beside what the model predicts for them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rnam.estimators import labels
from rnam.estimators.labels import Targets
from rnam.explain._arrays import Floats
from rnam.explanation.reading import Rows
from rnam.explanation.sources import Source

__all__ = ["Labelled", "labelled", "predicts_labels", "targets"]


class Labelled(NamedTuple):
    """Rows that have a label.

    Args:
        rows: (labels,), which of the predictions.
        truth: (labels,), numbers, or 1 where the label is the class that is explained, and 0.
        predicted: (labels,), in the units of y, or the probability of that class.
        weight: (labels,)
        classes: whether these are classes.
    """

    rows: Rows
    truth: Floats
    predicted: Floats
    weight: Floats
    classes: bool


def targets(source: Source) -> Targets | None:
    """The labels as numbers or codes; None where X came without."""
    table, estimator = source.table, source.reader.estimator
    if table.y is None and table.panel.target is None:
        return None
    found: Targets = estimator._read_targets(estimator._known_labels("y", table), first=False)
    return found


def predicts_labels(source: Source) -> bool:
    """False of quantiles, log variances and the bins of survival."""
    reader = source.reader
    loss = reader.estimator.loss_
    variance = loss.name == "gaussian" and reader.number >= loss.targets
    return not (reader.link == "survival" or loss.name == "quantile" or variance)


def labelled(source: Source) -> Labelled:
    """
    Raises:
        ValueError: X came without labels; the outputs are quantiles, log variances or bins of survival, which are no
            predictions of a label.
    """
    reader = source.reader
    estimator, loss = reader.estimator, reader.estimator.loss_
    found = targets(source)
    if found is None:
        raise ValueError("y must be given, or be the target of the panel, to be compared with predictions, got None")
    if not predicts_labels(source):
        raise ValueError(f"output must be a prediction of a label, got {reader.output!r} of loss={loss.name!r}")
    rows = np.flatnonzero(found.labelled)
    raw = estimator._outputs(source.inputs)
    raw = raw[source.rows(source.panel)] if source.inputs.flat and reader.at == "id" else raw
    weight = labels.weight_of(None, source.table, found)
    weight = np.ones(len(raw)) if weight is None else weight
    if loss.classes:
        code = 1 if reader.link == "logit" else reader.number
        truth: Any = (found.values == code).astype(np.float64)
        predicted = loss.predict_proba(raw)[:, code]
    else:
        truth, predicted = found.values[:, reader.number], loss.predict(raw)[:, reader.number]
    kept = rows[weight[rows] > 0]
    if not len(kept):
        raise ValueError("sample_weight must be greater than 0 at a label, got 0 everywhere")
    return Labelled(kept, truth[kept], predicted[kept], weight[kept], bool(loss.classes))
