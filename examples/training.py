"""Trainings that can be cut at any epoch and go on to the same result, as the examples share them.

A run trains some models one after another. What is random in one is drawn from a path of numbers, such as (seed,
model, epoch), so no epoch depends on what was drawn before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm


@dataclass
class Running:
    """A model in training, after `epoch` whole epochs: its parameters and its optimizer's state."""

    epoch: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]


@dataclass
class Progress:
    """How far a run is: the parameters of the finished models, in their order, and of the one in training."""

    finished: list[dict[str, Tensor]] = field(default_factory=list)
    running: Running | None = None

    def epochs(self, of_each: int) -> int:
        """The whole epochs behind, where a model has so many."""
        return len(self.finished) * of_each + (self.running.epoch if self.running else 0)


@dataclass(frozen=True)
class Plan:
    """What a model and its optimizer are, and how many steps an epoch has."""

    model: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    steps: int


def seed_for(*path: int) -> int:
    """The seed of a path: torch draws a model's parameters from one, numpy the order of an epoch's rows.

    Paths of one length have different seeds, but for the chance of 2^-32 that two numbers of 32 bits agree. A
    path and the same path with 0 at its end have one seed, since numpy reads missing numbers as 0: parameters and
    first order then come from one seed, by generators that share no numbers.
    """
    return int(np.random.SeedSequence(path).generate_state(1)[0])


def in_turn(
    one: Callable[[int, Running | None], Iterator[Running]], models: int, epochs: int, progress: Progress
) -> Iterator[Progress]:
    """Train the models 0, 1, ... from where `progress` stands; yields it after each epoch.

    `one` gives the states of a model after each epoch, from the one it is given on.
    """
    for number in range(len(progress.finished), models):
        for running in one(number, progress.running):
            progress.running = running
            if running.epoch == epochs:
                progress.finished.append(running.model)
                progress.running = None
            yield progress


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[int], Sequence[Tensor]],
    loss: Callable[[Tensor], Tensor],
    *,
    rate: float,
    epochs: int,
    running: Running | None,
) -> Iterator[Running]:
    """Minimise `loss` of the batches of each epoch; yields the state after each, from `running` on.

    `batches` gives an epoch's, as many in each. The learning rate is `rate` at its highest.
    """
    if running is not None:
        model.load_state_dict(running.model)
        optimizer.load_state_dict(running.optimizer)
    for epoch in range(running.epoch if running else 0, epochs):
        some = batches(epoch)
        for step, batch in enumerate(some):
            value = loss(batch)
            optimizer.param_groups[0]["lr"] = rate * _schedule((epoch * len(some) + step + 1) / (epochs * len(some)))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        yield Running(epoch + 1, _copy(model.state_dict()), optimizer.state_dict())


def _schedule(done: float) -> float:
    """The learning rate's factor: up in a line for 30% of the steps, down to 0 along a cosine."""
    return done / 0.3 if done < 0.3 else 0.5 + 0.5 * math.cos(math.pi * (done - 0.3) / 0.7)


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def watch(
    training: Iterable[Progress],
    save: Callable[[Progress], None],
    *,
    total: int,
    done: int,
    every: int,
    note: Callable[[Progress], str],
    label: str = "Training",
) -> None:
    """Finish a training with a progress bar. A finished model is saved at once, one in training every so many epochs.

    `total` and `done` count epochs; `note` stands at the end of the bar.
    """
    with tqdm(total=total, initial=done, desc=label, unit="epoch", dynamic_ncols=True) as bar:
        for now in training:
            if now.running is None or now.running.epoch % every == 0:
                save(now)
            bar.set_postfix_str(note(now), refresh=False)
            bar.update()
