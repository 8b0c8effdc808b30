"""A panel with its labels as numbers, weights and groups: what a fit learns from, and its held-out part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnam.estimators.batches import Batches
from rnam.estimators.encoding import Encoder
from rnam.panel import Panel
from rnam.panel.schema import At
from rnam.panel.storage import ragged

__all__ = ["Sample"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """A panel with labels.

    Args:
        panel: ids and visits.
        target: (labels, targets) of numbers, (labels,) of codes of classes, where `at` says; anything where there is no
            label.
        labelled: bool (labels,).
        at: "id" or "visit".
        weight: (labels,), at least 0, or None.
        groups: int64 (ids,), ids of one number belong together; or None.
    """

    panel: Panel
    target: Array
    labelled: NDArray[np.bool_]
    at: At
    weight: NDArray[np.float64] | None
    groups: NDArray[np.int64] | None

    def take(self, positions: NDArray[np.int64]) -> Sample:
        """Some of the ids."""
        panel = self.panel
        rows = positions if self.at == "id" else ragged(panel.offsets[positions], panel.lengths[positions])
        return Sample(
            panel.take(positions),
            self.target[rows],
            self.labelled[rows],
            self.at,
            None if self.weight is None else self.weight[rows],
            None if self.groups is None else self.groups[positions],
        )

    def split(self, share: float, rng: np.random.Generator, classes: int) -> tuple[Sample, Sample | None]:
        """A training part and a held-out part of about this share of the ids, at random: whole groups where there are
        groups, else with labels of ids a share of each class. None is held out where a part would have no label.

        Args:
            classes: the number of classes; 0 of numbers.
        """
        ids = len(self.panel)
        owners = np.arange(ids) if self.groups is None else np.unique(self.groups, return_inverse=True)[1]
        held = np.zeros(ids, np.bool_)
        stratified = classes > 0 and self.at == "id" and self.groups is None
        kinds = np.where(self.labelled, self.target, -1) if stratified else np.zeros(owners.max() + 1)
        for kind in np.unique(kinds):
            order = rng.permutation(np.flatnonzero(kinds == kind))
            held |= np.isin(owners, order[: round(share * len(order))])
        if not (self._has_labels(held) and self._has_labels(~held)):
            return self, None
        return self.take(np.flatnonzero(~held)), self.take(np.flatnonzero(held))

    def rows(self) -> NDArray[np.int64]:
        """The visit that each label belongs to, of an id its last one: int64 (labels there are,)."""
        panel = self.panel
        return (panel.last if self.at == "id" else np.arange(len(self.labelled)))[self.labelled]

    def learned(self, flat: bool) -> int:
        """How many ids have a label, or rows where each visit is one."""
        if flat or self.at == "id":
            return int(self.labelled.sum())
        return len(np.unique(self.panel.owners[self.labelled]))

    def batches(self, encoder: Encoder) -> Batches:
        """The batches on which a model with this encoder is trained."""
        inputs, groups = encoder.transform(self.panel), self.groups
        if encoder.flat:  # each visit is a row: those of an id stay together
            groups = self.panel.owners if groups is None else groups[self.panel.owners]
        return Batches(inputs, self.target, self.at, self.weight, self.labelled, groups)

    def _has_labels(self, ids: NDArray[np.bool_]) -> bool:
        of_labels = ids if self.at == "id" else ids[self.panel.owners]
        there = self.labelled & of_labels
        return bool(there.any() if self.weight is None else (self.weight[there] > 0).any())
