"""The models of a seed: RNAM on all visits, and the same model with one step, on the last values.

Both are ensembles of `members` models in one call, on bootstrap weights by person, the same for both. No class is
weighted: the outputs are meant as probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import rnam
from examples.plasmode.data import FACTS, LABS, Bools, Cohort, Inputs, Scaler
from examples.plasmode.truth import Truth, draw, truth
from examples.sequences import Floats
from examples.training import Plan, Progress, Running, fit, in_turn, seed_for

KINDS = ("full", "last")  # the models of a seed, in the order of training
PARTS = {"full": 4, "last": 1}  # of a batch, by length


@dataclass(frozen=True)
class Settings:
    """What decides the result, next to the data and the versions. The numbers were chosen on the seeds 10 and 11."""

    seed: int = 0
    people: int = 8000  # drawn from the cohort: half of them to train, half to test
    epochs: int = 20
    members: int = 10
    hidden_dim: int = 16
    blocks: int = 1
    batch: int = 128  # people in a step
    learning_rate: float = 1e-2  # at its highest
    weight_decay: float = 0.01
    penalty: float = 0.001  # on the squared contributions of a visit, summed over the terms

    def model(self) -> rnam.RNAM:
        """A model with its parameters drawn from torch's random state, on the CPU."""
        labs = len(LABS)
        return rnam.RNAM(
            labs,
            self.hidden_dim,
            out_dim=1,
            blocks=self.blocks,
            columns=[(2 * lab, 2 * lab + 1) for lab in range(labs)],
            static_columns=[(fact,) for fact in range(len(FACTS))],
            missing=True,
            members=self.members,
        )

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Of a model; the training sets the learning rate before each step."""
        return torch.optim.AdamW(model.parameters(), weight_decay=self.weight_decay)

    def steps(self) -> int:
        """Of an epoch; the models of both kinds take as many."""
        return math.ceil((self.people - self.people // 2) / self.batch)

    def seed_for(self, *path: int) -> int:
        return seed_for(self.seed, *path)


@dataclass(frozen=True)
class Task:
    """One seed's people: halves of a random choice from the cohort, with a simulated outcome.

    weight (members, training people): how often each is in a member's bootstrap sample
    """

    settings: Settings
    train: Cohort
    test: Cohort
    scaler: Scaler
    positive_train: Bools
    positive_test: Bools
    truth_test: Truth
    weight: Tensor

    @staticmethod
    def make(people: Cohort, settings: Settings) -> Task:
        order = np.random.default_rng(settings.seed_for(0)).permutation(len(people.id))[: settings.people]
        test, train = (people.take(np.sort(half)) for half in np.split(order, [settings.people // 2]))
        truths = truth(train), truth(test)
        outcomes = [draw(each.log_odds(), settings.seed_for(1, part)) for part, each in enumerate(truths)]
        generator = torch.Generator().manual_seed(settings.seed_for(2))
        weight = rnam.bootstrap_weights(torch.tensor(train.id), settings.members, generator=generator)
        return Task(settings, train, test, Scaler.fit(train), *outcomes, truths[1], weight)


@dataclass(frozen=True)
class Rows:
    """What one kind of model is trained on.

    positive, counted (rows, seq)   the outcome; whether it is a visit
    weight   (members, rows)
    """

    inputs: Inputs
    positive: Tensor
    counted: Tensor
    weight: Tensor

    @staticmethod
    def of(kind: str, task: Task, device: torch.device) -> Rows:
        visits = task.train.is_visit()
        positive, counted, weight = torch.tensor(task.positive_train), torch.tensor(visits), task.weight
        if kind == "full":
            inputs = task.scaler.sequences(task.train)
        else:
            inputs = task.scaler.last_values(task.train)
            weight = weight.repeat_interleave(torch.tensor(task.train.length), dim=1)
            positive, counted = positive[counted][:, None], torch.ones(len(inputs.length), 1)
        return Rows(inputs.to(device), positive.float().to(device), counted.float().to(device), weight.to(device))


def plans(settings: Settings) -> list[Plan]:
    return [Plan(settings.model, settings.optimizer, settings.steps())] * len(KINDS)


def train(task: Task, progress: Progress, device: torch.device) -> Iterator[Progress]:
    """Train the models of a seed from where `progress` stands; yields it after each epoch."""
    return in_turn(partial(_train_one, task, device), len(KINDS), task.settings.epochs, progress)


def _train_one(task: Task, device: torch.device, number: int, running: Running | None) -> Iterator[Running]:
    """The state of one model after each epoch, from `running` on."""
    settings = task.settings
    kind = KINDS[number]
    rows = Rows.of(kind, task, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed_for(3, number))
        model = settings.model()
    rate = float((rows.positive * rows.counted).sum() / rows.counted.sum())
    torch.nn.init.constant_(model.gam.bias, math.log(rate / (1 - rate)))
    model.to(device)
    each_step = float(rows.counted.sum()) / settings.steps()

    def batches(epoch: int) -> Sequence[Tensor]:
        order = np.random.default_rng(settings.seed_for(4, number, epoch)).permutation(len(rows.positive))
        return torch.tensor(order, device=device).tensor_split(settings.steps())

    def loss(batch: Tensor) -> Tensor:
        by_length = batch[rows.inputs.length[batch].argsort()]  # so that little of what is computed is padding
        return torch.stack([part_of_loss(part) for part in by_length.tensor_split(PARTS[kind])]).sum()

    def part_of_loss(part: Tensor) -> Tensor:
        some = rows.inputs.rows(part)
        prediction, contributions = model(**some.keywords(), return_sequence=True, return_members=True)
        seq = prediction.shape[2]
        target = rows.positive[part, :seq].expand(settings.members, -1, -1)
        each = F.binary_cross_entropy_with_logits(prediction[..., 0], target, reduction="none")
        each = each + settings.penalty * contributions[..., 0].square().sum(1)
        return (each * rows.counted[part, :seq] * rows.weight[:, part, None]).sum() / each_step

    optimizer = settings.optimizer(model)
    return fit(model, optimizer, batches, loss, rate=settings.learning_rate, epochs=settings.epochs, running=running)


def read(
    settings: Settings, state: dict[str, Tensor], inputs: Inputs, device: torch.device, rows: int = 500
) -> tuple[Floats, Floats]:
    """What a finished model says of `inputs`, of so many rows at a time.

    Returns:
        contributions (members, rows, terms, seq, 1), padding as the last visit, and biases (members, 1).
    """
    model = settings.model()
    model.load_state_dict(state)
    model.to(device)
    seq, parts = inputs.input.shape[1], []
    for index in torch.arange(len(inputs.length)).split(rows):
        some = inputs.rows(index).to(device).keywords()
        part = rnam.explain.contributions(model, some.pop("input"), over_time=True, return_members=True, **some)
        parts.append(np.pad(part, [(0, 0)] * 3 + [(0, seq - part.shape[3]), (0, 0)], mode="edge"))
    return np.concatenate(parts, axis=1), rnam.explain.intercept(model)
