"""A panel with its labels as numbers, weights and groups: what a fit learns from, and its held-out part."""

from __future__ import annotations

from dataclasses import dataclass, replace
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

    def weighed(self, own: Array) -> Sample:
        """With weights (labels there are,) beside those that it has."""
        weight = np.zeros(len(self.labelled))
        weight[self.labelled] = own if self.weight is None else own * self.weight[self.labelled]
        return replace(self, weight=weight)

    def split(self, share: float, rng: np.random.Generator, classes: int) -> tuple[Sample, Sample | None]:
        """A training part and a held-out part of about this share of the ids, at random: whole groups where there are
        groups, else with labels of ids a share of each class. Each part has a label: a share that would leave one
        without holds one id, or group, more or less out. None is held out where there is but one that has a label, or
        one of each class.

        Args:
            classes: the number of classes; 0 of numbers.
        """
        ids = len(self.panel)
        owners = np.arange(ids) if self.groups is None else np.unique(self.groups, return_inverse=True)[1]
        held = np.zeros(owners.max() + 1, np.bool_)
        stratified = classes > 0 and self.at == "id" and self.groups is None
        kinds = np.where(self.labelled, self.target, -1) if stratified else np.zeros(len(held), np.int64)
        for kind in np.unique(kinds):
            order = rng.permutation(np.flatnonzero(kinds == kind))
            held[order[: round(share * len(order))]] = True
        learned = np.bincount(owners[self._with_labels()], minlength=len(held)) > 0
        commonest = np.bincount(kinds[learned]).argmax()
        movable = np.flatnonzero(learned & (kinds == commonest))
        if len(np.unique(held[learned])) < 2:
            if len(movable) < 2:
                return self, None
            held[rng.choice(movable)] ^= True
        own = held[owners]
        return self.take(np.flatnonzero(~own)), self.take(np.flatnonzero(own))

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

    def _with_labels(self) -> NDArray[np.bool_]:
        """The ids (ids,) that have a label of some weight."""
        there = self.labelled if self.weight is None else self.labelled & (self.weight > 0)
        return there if self.at == "id" else np.bincount(self.panel.owners[there], minlength=len(self.panel)) > 0
