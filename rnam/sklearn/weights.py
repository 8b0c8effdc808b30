"""What the batches carry beside X: weights of samples, the members' bootstrap weights, and groups for the split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, StratifiedGroupKFold
from skorch.dataset import ValidSplit
from torch.utils.data import Subset

from rnam.explain import _arrays
from rnam.explain._arrays import Floats
from rnam.resampling import bootstrap_weights
from rnam.sklearn import tables

__all__ = ["CARRIED", "GROUPS", "RESAMPLED", "WEIGHT", "carried", "grouped_split", "mean_weight"]

WEIGHT, RESAMPLED, GROUPS = CARRIED = ("sample_weight", "resample_weight", "split_group")


def carried(samples: int, members: int, sample_weight: Any, resample: Any, groups: Any) -> dict[str, NDArray[Any]]:
    """The arrays (samples, ...) that go with X. Without `groups`, the people of `resample` are the groups."""
    arrays: dict[str, NDArray[Any]] = {}
    if sample_weight is not None:
        weight = _arrays.sample_weight(tables.to_numbers(WEIGHT, sample_weight), (samples,))
        arrays[WEIGHT] = weight / weight.max()  # their scale has no effect, and no sum of them overflows
    if resample is not None:
        if members == 1:
            raise ValueError("resample must be None for a model without members, got ids")
        person = torch.from_numpy(_numbered("resample", resample, samples))
        arrays[RESAMPLED] = bootstrap_weights(person, members).T.numpy()
        groups = resample if groups is None else groups
    if groups is not None:
        arrays[GROUPS] = _numbered("groups", groups, samples)
    return arrays


def _numbered(argument: str, ids: Any, samples: int) -> NDArray[np.int64]:
    """Ids of any kind as the numbers of those that are different."""
    array = _arrays.as_array(ids)
    if array.shape != (samples,):
        raise ValueError(f"{argument} must have shape {(samples,)}, got {array.shape}")
    unknown = int(tables.absent(array).sum())
    if unknown:
        raise ValueError(f"{argument} must have an id for each sample, got NaN or None in {unknown} of {samples}")
    return tables.distinct(argument, array)


def mean_weight(part: str, dataset: Any, *names: str) -> Floats:
    """The mean weight of the samples of a dataset, (1,) or (members,); ones where it carries no weights.

    Raises:
        ValueError: all weights are 0.
    """
    weight = np.ones((1, 1))
    for name in names:
        values = _of_dataset(dataset, name)
        if values is not None:
            weight = weight * values.reshape(len(values), -1)
    mean = weight.mean(0)
    if not mean.any():
        raise ValueError(f"sample_weight must not be zero for all samples of the {part} part: there is no weight left")
    return np.asarray(mean, np.float64)


def _of_dataset(dataset: Any, name: str) -> NDArray[Any] | None:
    """What the rows of a dataset carry by this name; a part of a dataset has that of its own rows."""
    if isinstance(dataset, Subset):
        whole = _of_dataset(dataset.dataset, name)
        return None if whole is None else whole[np.asarray(dataset.indices)]
    X = getattr(dataset, "X", None)
    return np.asarray(X[name]) if isinstance(X, Mapping) and name in X else None


def grouped_split(split: Any, dataset: Any, y: Any, groups: NDArray[np.int64]) -> Any:
    """Training and validation part, each of whole groups.

    skorch's ValidSplit of a number of folds or of a share becomes its equal for groups; any other split is given the
    groups.
    """
    if not (isinstance(split, ValidSplit) and (split.cv is None or isinstance(split.cv, int | float))):
        return split(dataset, y, groups=groups)
    cv = 5 if split.cv is None else split.cv
    if not float(cv).is_integer():
        folds: Any = GroupShuffleSplit(1, test_size=cv, random_state=split.random_state)
    else:
        folds = StratifiedGroupKFold(int(cv)) if split.stratified else GroupKFold(int(cv))
    training, validation = next(folds.split(np.zeros(len(groups)), y, groups))
    return Subset(dataset, training), Subset(dataset, validation)
