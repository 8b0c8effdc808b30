"""The models: for each fold a few RNAMs that differ in their random numbers, averaged.

The average of the log-odds of additive models is additive: its contributions are the average ones.
Every random number is drawn from (seed, fold, member, epoch), so a run can be cut at any epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

import rnam
from examples.pbcseq.data import TERMS, Bools, Cohort, Floats, Inputs, Scaler, folds, outcome, weights


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
        """Of a model; `train` sets the learning rate before each step."""
        return torch.optim.AdamW(model.parameters(), weight_decay=self.weight_decay)

    def steps(self, people: int) -> int:
        """The steps of an epoch over so many people; the last one may be of fewer."""
        return math.ceil(people / self.batch)

    def seed_for(self, *path: int) -> int:
        """The seed of a path: (fold, member), from which torch draws a model's parameters, or
        (fold, member, epoch), from which numpy draws the order of an epoch's people.

        Paths of one length have different seeds, but for the chance of 2^-32 that two numbers of 32 bits
        agree. A path and the same path with 0 at its end have one seed, since numpy reads missing numbers
        as 0: parameters and first order then come from one seed, by generators that share no numbers.
        """
        return int(np.random.SeedSequence([self.seed, *path]).generate_state(1)[0])


@dataclass
class Running:
    """A model in training, after `epoch` whole epochs: its parameters and its optimizer's state."""

    epoch: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]


@dataclass
class Progress:
    """How far a run is: the parameters of the finished models, fold by fold, and of the one in training."""

    finished: list[dict[str, Tensor]] = field(default_factory=list)
    running: Running | None = None

    def epochs(self, settings: Settings) -> int:
        """The whole epochs behind."""
        return len(self.finished) * settings.epochs + (self.running.epoch if self.running else 0)


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


def train(made: list[Fold], settings: Settings, progress: Progress, device: torch.device) -> Iterator[Progress]:
    """Train every model of every fold from where `progress` stands; yields it after each epoch."""
    for number in range(len(progress.finished), settings.folds * settings.members):
        fold, member = divmod(number, settings.members)
        for running in _train_one(made[fold], settings, (fold, member), progress.running, device):
            progress.running = running
            if running.epoch == settings.epochs:
                progress.finished.append(running.model)
                progress.running = None
            yield progress


def _train_one(
    fold: Fold, settings: Settings, path: tuple[int, int], running: Running | None, device: torch.device
) -> Iterator[Running]:
    """The state of one model after each epoch, from `running` on."""
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
    optimizer = settings.optimizer(model)
    if running is not None:
        model.load_state_dict(running.model)
        optimizer.load_state_dict(running.optimizer)

    steps = settings.steps(len(fold.train))
    for epoch in range(running.epoch if running else 0, settings.epochs):
        order = np.random.default_rng(settings.seed_for(*path, epoch)).permutation(fold.train)
        for step, batch in enumerate(torch.tensor(order).split(settings.batch)):
            batch = batch.to(device)
            some = inputs.people(batch)
            prediction, contributions = model(some.input, some.mask, lengths=some.length, return_sequence=True)
            loss = F.binary_cross_entropy_with_logits(prediction[..., 0], positive[batch], reduction="none")
            loss = loss + settings.penalty * contributions[..., 0].square().sum(0)
            loss = (loss * weight[batch]).sum() / (per_person * len(batch))
            optimizer.param_groups[0]["lr"] = settings.learning_rate * _schedule(
                (epoch * steps + step + 1) / (settings.epochs * steps)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield Running(epoch + 1, _copy(model.state_dict()), optimizer.state_dict())


def _schedule(done: float) -> float:
    """The learning rate's factor: up in a line for 30% of the steps, down to 0 along a cosine."""
    return done / 0.3 if done < 0.3 else 0.5 + 0.5 * math.cos(math.pi * (done - 0.3) / 0.7)


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in state.items()}


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
