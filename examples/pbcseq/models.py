"""The models: an `rnam.RNAMClassifier` for each fold, which is saved when it is trained."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sklearn.base import clone
from tqdm import tqdm

import rnam
from examples.finished import CheckpointError, Finished
from examples.pbcseq.data import Fold


@dataclass(frozen=True)
class Settings:
    """Settings that decide the result, next to the data and the versions.

    The learning rate, the number of epochs and `timing` were chosen on the seeds 10, 11 and 12. The penalty on
    contributions is that of arXiv 2004.13912.
    """

    seed: int = 0
    folds: int = 5
    epochs: int = 20
    members: int = 3  # averaged in each model; they differ by their random numbers
    hidden: int = 16
    batch: int = 64  # people in a step
    learning_rate: float = 5e-3  # at its highest
    weight_decay: float = 0.1
    penalty: float = 0.15  # on the mean squared contribution of a visit's terms

    def model(self, device: torch.device) -> rnam.RNAMClassifier:
        return rnam.RNAMClassifier(
            self.hidden, timing=True, members=self.members, bootstrap=False,
            regularizer={"contributions": self.penalty}, learning_rate=self.learning_rate,
            weight_decay=self.weight_decay, batch_size=self.batch, max_epochs=self.epochs, validation=None,
            random_state=self.seed, device=str(device), verbose=0,
        )  # fmt: skip


def trained(
    made: Sequence[Fold], model: rnam.RNAMClassifier, finished: Finished, name: str = "fold"
) -> list[rnam.RNAMClassifier]:
    """A model of each fold, like `model`, in a folder beside `finished`, which says those that are done."""
    models = []
    for number, fold in enumerate(tqdm(made, f"Training {name}", unit="fold", dynamic_ncols=True)):
        path = finished.path.with_name(f"{name}{number}")
        if path.name not in finished.done:
            own = clone(model)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of Ctrl-C, which ends the run below
                own.fit(fold.train, sample_weight=fold.weight[~fold.is_test])
            if own.interrupted_:
                raise KeyboardInterrupt
            own.save(path, overwrite=True)
            finished.add(path.name, True)
        try:
            models.append(rnam.load(path))
        except ValueError as error:
            raise CheckpointError(f"{error}. Delete {path.parent} to start over") from error
    return models
