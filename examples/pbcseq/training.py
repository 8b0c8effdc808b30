"""The models: for each fold a few RNAMs that differ in their random numbers, averaged.

The average of the log-odds of additive models is additive: its contributions are the average ones.
Every random number is drawn from (seed, fold, member, epoch), so a run can be cut at any epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

import rnam
from examples.pbcseq.data import TERMS, Bools, Cohort, Floats, Inputs, Scaler, folds, outcome, weights
from examples.training import Plan, Progress, Running, fit, in_turn, seed_for


@dataclass(frozen=True)
class Settings:
    """What decides the result, next to the data and the versions.

    The numbers below were chosen on the seeds 10, 11 and 12. A wider or longer trained model overfits (a
    calibration slope below 0.9); the penalty on contributions is that of arXiv 2004.13912.
    """

    seed: int = 0
    folds: int = 5
    epochs: int = 20
    members: int = 3  # models averaged in each fold
    hidden_dim: int = 16
    blocks: int = 1
    batch: int = 64  # people in a step
    learning_rate: float = 3e-3  # at its highest
    weight_decay: float = 0.1
    penalty: float = 0.01  # on the squared contributions of a visit, summed over the terms

    def model(self) -> rnam.RNAM:
        """A model with its parameters drawn from torch's random state, on the CPU."""
        return rnam.RNAM(len(TERMS), self.hidden_dim, out_dim=1, blocks=self.blocks, in_dim=2)

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Of a model; the training sets the learning rate before each step."""
        return torch.optim.AdamW(model.parameters(), weight_decay=self.weight_decay)

    def steps(self, people: int) -> int:
        """The steps of an epoch over so many people; the last one may be of fewer."""
        return math.ceil(people / self.batch)

    def seed_for(self, *path: int) -> int:
        """Of the path (fold, member), from which torch draws a model's parameters, or (fold, member, epoch), from
        which numpy draws the order of an epoch's people. See `examples.training.seed_for`."""
        return seed_for(self.seed, *path)


@dataclass(frozen=True)
class Fold:
    """One fold's people, and its inputs and targets for all people, made from the training people alone.

    train, test      indices of people
    positive, weight (people, seq)
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    scaler: Scaler
    inputs: Inputs
    positive: Bools
    weight: Floats


def make_folds(people: Cohort, settings: Settings) -> list[Fold]:
    positive, _ = outcome(people)
    made = []
    for train, test in folds(people.event, settings.folds, settings.seed):
        scaler = Scaler.fit(people, train)
        made.append(Fold(train, test, scaler, scaler.inputs(people), positive, weights(people, train)))
    return made


def plans(settings: Settings, made: Sequence[Fold]) -> list[Plan]:
    """Of all models, fold by fold."""
    return [
        Plan(settings.model, settings.optimizer, settings.steps(len(fold.train)))
        for fold in made
        for _ in range(settings.members)
    ]


def train(made: list[Fold], settings: Settings, progress: Progress, device: torch.device) -> Iterator[Progress]:
    """Train every model of every fold from where `progress` stands; yields it after each epoch."""
    one = partial(_train_one, made, settings, device)
    return in_turn(one, settings.folds * settings.members, settings.epochs, progress)


def _train_one(
    made: list[Fold], settings: Settings, device: torch.device, number: int, running: Running | None
) -> Iterator[Running]:
    """The state of one model after each epoch, from `running` on."""
    path = divmod(number, settings.members)
    fold = made[path[0]]
    inputs = fold.inputs.to(device)
    positive = torch.tensor(fold.positive, dtype=torch.float32, device=device)
    weight = torch.tensor(fold.weight, dtype=torch.float32, device=device)
    per_person = fold.weight[fold.train].sum() / len(fold.train)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed_for(*path))
        model = settings.model()
    rate = np.average(fold.positive[fold.train], weights=fold.weight[fold.train])
    torch.nn.init.constant_(model.gam.bias, math.log(rate / (1 - rate)))
    model.to(device)

    def batches(epoch: int) -> Sequence[Tensor]:
        order = np.random.default_rng(settings.seed_for(*path, epoch)).permutation(fold.train)
        return torch.tensor(order, device=device).split(settings.batch)

    def loss(batch: Tensor) -> Tensor:
        some = inputs.people(batch)
        prediction, contributions = model(some.input, some.mask, lengths=some.length, return_sequence=True)
        each = F.binary_cross_entropy_with_logits(prediction[..., 0], positive[batch], reduction="none")
        each = each + settings.penalty * contributions[..., 0].square().sum(0)
        return (each * weight[batch]).sum() / (per_person * len(batch))

    optimizer = settings.optimizer(model)
    return fit(model, optimizer, batches, loss, rate=settings.learning_rate, epochs=settings.epochs, running=running)


def log_odds(
    settings: Settings, finished: list[dict[str, Tensor]], inputs: Inputs, device: torch.device
) -> tuple[Floats, Floats]:
    """The average of some finished models.

    Returns:
        log_odds (people, seq) at each visit, from it and earlier ones; and the terms' contributions
        (terms, people, seq), which sum to it with the average bias. Padding repeats the last visit's.
    """
    model, inputs = settings.model().to(device), inputs.to(device)
    total: list[Tensor] = []
    for state in finished:
        model.load_state_dict(state)
        with torch.no_grad():
            result = model(inputs.input, inputs.mask, lengths=inputs.length, return_sequence=True)
        total = [a + b[..., 0] for a, b in zip(total or (0, 0), result, strict=True)]
    prediction, contributions = (np.asarray((t / len(finished)).cpu(), np.float64) for t in total)
    return prediction, contributions
