"""`Batches`: inputs with labels and weights, cut from arrays into batches of nearly equal size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnam.estimators.encoding import Inputs
from rnam.estimators.losses import Loss
from rnam.resampling import bootstrap_weights

__all__ = ["Batches", "Labels", "Part"]

Batch = tuple[dict[str, Tensor], "Labels"]


@dataclass(frozen=True)
class Batches:
    """A part of the data, for training or for validation.

    Args:
        inputs: what the model reads.
        target: (sequences,) or (sequences, targets), in the units of y, of classes their codes; with labels at visits
            (visits,) or (visits, targets).
        at: "id", a label for each sequence, or "visit", one for each visit; the same where the inputs are flat.
        weight: of each label, at least 0; ones by default.
        labelled: bool, where there is a label; by default everywhere. Elsewhere target and weight may hold anything.
        groups: integers (sequences,): the members' bootstrap samples are drawn by group; by default by sequence.
    """

    inputs: Inputs
    target: NDArray[Any]
    at: Literal["id", "visit"] = "id"
    weight: NDArray[Any] | None = None
    labelled: NDArray[np.bool_] | None = None
    groups: NDArray[np.int64] | None = None

    @property
    def at_visits(self) -> bool:
        """True if a sequence may have several labels, each of one of its visits."""
        return self.at == "visit" and not self.inputs.flat

    def known(self) -> NDArray[np.int64]:
        """The places of the labels in `target`."""
        where = np.arange(len(self.target)) if self.labelled is None else np.flatnonzero(self.labelled)
        return where.astype(np.int64)

    def labels(self) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
        """The labels that are there, and their weights, as `Loss.fit` takes them."""
        known = self.known()
        return self.target[known], None if self.weight is None else self.weight[known].astype(np.float64)


class Labels(NamedTuple):
    """Of a batch.

    Args:
        target: as `Loss.scaled` gives it.
        share: (labels,) or (members, labels): what a loss counts for. Their sum over all batches is the number of
            batches, so that the mean of the batches' losses is the weighted mean loss.
        weight: (labels,), the weights alone, or None for ones.
        row, step: of the label in the batch, with labels at visits; else None: one for each row.
    """

    target: Tensor
    share: Tensor
    weight: Tensor | None
    row: Tensor | None
    step: Tensor | None


class Part:
    """Batches on a device, of the sequences that have a label; iterating over it is an epoch.

    Sizes differ by one at most: no sequence of a short last batch counts for more. A loss is divided by the mean weight
    of the whole part, never by that of its batch, so that batches of any size have the optimum of the whole.

    Args:
        batches: the data.
        loss: fitted.
        size: the most sequences of a batch.
        device: of the tensors.
        members: of the model that is trained; 1 for validation.
        rng: shuffles, and draws the bootstrap samples; None keeps the order.
        bootstrap: each of several members has its own bootstrap sample; else all have the whole.
    """

    def __init__(
        self, batches: Batches, loss: Loss, size: int, device: torch.device, members: int = 1,
        rng: np.random.Generator | None = None, bootstrap: bool = True,
    ) -> None:  # fmt: skip
        inputs, known = batches.inputs, batches.known()
        owner = np.searchsorted(inputs.offsets, known, "right") - 1 if batches.at_visits else known
        if not len(known):
            raise ValueError("y must have a label, got none")
        self.inputs, self.device, self.rng = inputs, device, rng
        self.sequences = np.unique(owner)
        self.count = -(-len(self.sequences) // size)
        self._target = loss.scaled(batches.target[known])
        weight = np.ones(len(known)) if batches.weight is None else batches.weight[known].astype(np.float64)
        share = np.broadcast_to(weight, (members, len(known)))
        if members > 1 and bootstrap:
            groups = np.arange(inputs.sequences) if batches.groups is None else batches.groups
            drawn = torch.Generator().manual_seed(0 if rng is None else int(rng.integers(2**63 - 1)))
            codes = np.unique(groups[self.sequences], return_inverse=True)[1]
            times = bootstrap_weights(torch.from_numpy(codes), members, generator=drawn).double().numpy()
            share = share * times[:, np.searchsorted(self.sequences, owner)]
        total = share.sum(1, keepdims=True)
        if not total.any():
            raise ValueError("sample_weight must not be zero for all labels of a part, since no weight is left")
        # a member of whose sample all weights are 0 learns nothing: 0 / 1
        share = share / np.where(total > 0, total, 1) * self.count
        self._share = torch.from_numpy(share.astype(np.float32))
        self._weight = None if batches.weight is None else torch.from_numpy(weight.astype(np.float32))
        self._step = self._first = None
        self.over_time = batches.at_visits
        if self.over_time:
            self._step = known - inputs.offsets[owner]
            self._first = np.searchsorted(owner, np.arange(inputs.sequences + 1))
        else:
            self._place = np.empty(inputs.sequences, np.int64)
            self._place[known] = np.arange(len(known))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        order = self.sequences if self.rng is None else self.rng.permutation(self.sequences)
        ends = np.arange(1, self.count + 1) * len(order) // self.count
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            positions = order[start:end]
            yield self.inputs.batch(positions, self.device), self._labels(positions)

    def _labels(self, positions: NDArray[np.int64]) -> Labels:
        row = step = None
        if self._first is None or self._step is None:
            found = self._place[positions]
        else:
            first = self._first[positions]
            counts = self._first[positions + 1] - first
            ends = counts.cumsum()
            rows = np.repeat(np.arange(len(positions)), counts)
            found = np.arange(ends[-1]) + (first - ends + counts)[rows]
            row = torch.from_numpy(rows).to(self.device)
            step = torch.from_numpy(self._step[found]).to(self.device)
        at = torch.from_numpy(found)
        share = self._share[:, at]
        return Labels(
            self._target[at].to(self.device),
            (share[0] if len(share) == 1 else share).to(self.device),
            None if self._weight is None else self._weight[at].to(self.device),
            row,
            step,
        )
