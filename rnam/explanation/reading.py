"""`Reader`: a fitted estimator as contributions to one number, by member, in the units of y before the link."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnam import explain
from rnam.estimators.base import READ_AT_ONCE
from rnam.estimators.encoding import Encoder, Feature, Inputs, Term
from rnam.estimators.survival_losses import SurvivalLoss
from rnam.estimators.training import outputs
from rnam.explain._arrays import Bools, Floats
from rnam.explain.names import position
from rnam.panel.schema import At

__all__ = ["Reader", "Rows"]

Rows = NDArray[np.int64]

VISITS = 100_000  # of a batch


class Reader:
    """A fitted estimator's contributions to one output, as float64 arrays with the members first.

    An additive model with several outputs gives each term as many contributions. An explanation is of one number: of
    one output, of a softmax of what it has above the mean of all, of survival of the mean over the bins.

    Args:
        estimator: fitted.
        output: the name of an output; None where there is one, and of survival for the mean over the bins.

    Attributes:
        output: what the number is called.
        link: "identity", "log", "logit", or "softmax" and "survival", where no single output gives the prediction.
        weights: (out_dim,), of the outputs in the number.
        terms: of the encoder.

    Raises:
        TypeError, ValueError: output is none of the model's, or is needed.
    """

    def __init__(self, estimator: Any, output: str | int | None = None) -> None:
        self.estimator, self.model = estimator, estimator.model_
        self.encoder: Encoder = estimator.encoder_
        self.at: At = estimator.at_
        self.terms: tuple[Term, ...] = self.encoder.terms
        loss = estimator.loss_
        names = estimator._output_names()
        count = len(names)
        survival = isinstance(loss, SurvivalLoss)
        self.link: str = "survival" if survival else loss.link
        if output is None and survival:
            self.weights, self.output, self.number = np.full(count, 1 / count), "mean log-odds of the event", -1
            return
        if output is None and count > 1:
            raise ValueError(f"output must be one of {', '.join(names)}, got None")
        self.number = 0 if output is None else position("output", output, names)
        self.output = names[self.number]
        self.weights = np.eye(count)[self.number]
        if self.link == "softmax":  # what is common to all classes changes no probability
            self.weights = self.weights - 1 / count

    @property
    def members(self) -> int:
        return int(self.estimator.model_.members)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(term.name for term in self.terms)

    @property
    def scale_name(self) -> str:
        """The quantity that contributions add up to."""
        told = {
            "identity": self.output, "log": f"log of {self.output}", "logit": f"log-odds of {self.output}",
            "softmax": f"score of {self.output}", "survival": f"log-odds of the event {self.output}",
        }  # fmt: skip
        return self.output if self.number < 0 else told[self.link]

    def bias(self) -> Floats:
        """(members,)"""
        bias = explain.intercept(self.model).astype(np.float64).reshape(-1, len(self.weights))
        return np.asarray(self.estimator.loss_.decision(bias) @ self.weights)

    def contributions(self, inputs: Inputs, at: At | None = None) -> Floats:
        """(members, rows, terms), not centred: at the last visit of each sequence, or with "visit" at each.

        Args:
            at: "id" or "visit"; by default where the labels were.
        """
        found = outputs(
            self.model, inputs, at=at or self.at, batch_size=_size(inputs), by_term=True, return_members=True
        )  # (members, terms, rows, out_dim)
        return np.asarray((found @ (np.asarray(self.estimator.loss_.gain) * self.weights)).swapaxes(1, 2))

    def change(self, values: Floats) -> Floats:
        """(..., out_dim) of the model as one number (...)."""
        return np.asarray(values @ (np.asarray(self.estimator.loss_.gain) * self.weights))

    def observed(self, inputs: Inputs, at: At | None = None) -> Bools:
        """(rows, terms): where contributions come from an observation, as `rnam.explain.observed`."""
        over_time = (at or self.at) == "visit" and not inputs.flat
        found = []
        for positions in _batches(inputs):
            seen = explain.observed(self.model, **inputs.batch(positions, self.device), over_time=over_time)
            if over_time:
                seen = seen.swapaxes(1, 2)[np.arange(seen.shape[2]) < inputs.lengths[positions][:, None]]
            found.append(seen)
        return np.concatenate(found)

    def told(self, total: Floats) -> Floats:
        """The prediction in the units of y, where the link gives it from this number; else the number itself."""
        if self.link == "log":
            return np.exp(total)
        if self.link == "logit":
            return np.asarray(np.exp(-np.logaddexp(0.0, -total)))
        return total

    def linked(self, prediction: float) -> float:
        """The inverse of `told`.

        Raises:
            ValueError: it is none that the link can give.
        """
        low, high = {"log": (0.0, np.inf), "logit": (0.0, 1.0)}.get(self.link, (-np.inf, np.inf))
        if not low < prediction < high:
            raise ValueError(f"target must be between {low} and {high}, got {prediction!r}")
        if self.link == "log":
            return float(np.log(prediction))
        return float(np.log(prediction) - np.log1p(-prediction)) if self.link == "logit" else prediction

    def term(self, name: Any) -> int:
        """The number of a term.

        Raises:
            TypeError, ValueError: there is none of that name.
        """
        return position("term", name, self.names)

    def feature(self, column: Any) -> Feature:
        """A column of the panel.

        Raises:
            ValueError: the fit had none of that name.
        """
        for feature in self.encoder.features:
            if feature.name == str(column):
                return feature
        known = ", ".join(feature.name for feature in self.encoder.features)
        raise ValueError(f"column must be one of {known}, got {column!r}")

    def readers(self, feature: Feature) -> list[int]:
        """The numbers of the terms that read a column."""
        return [n for n, term in enumerate(self.terms) if feature.name in term.features]

    @property
    def device(self) -> Any:
        return next(self.model.parameters()).device


def _size(inputs: Inputs) -> int:
    longest = int(inputs.lengths.max()) if inputs.sequences else 1
    return int(np.clip(VISITS // max(longest, 1), 1, READ_AT_ONCE))


def _batches(inputs: Inputs) -> Iterator[Rows]:
    size = _size(inputs)
    for start in range(0, inputs.sequences, size):
        yield np.arange(start, min(start + size, inputs.sequences))
