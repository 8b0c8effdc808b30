"""Sequences whose additive truth is known: latents, a target made of their averages, inputs made from them.

    z_t ~ Uniform(0, 1), independent                latents, one series for each term and sequence
    m_t = 0.95 m_{t-1} + 0.05 z_t,  m_0 = 0         their exponential averages, a memory of 20 steps
    y_t = sin m[0] + cos m[1] + sqrt m[2] + m[3]^2  the target: four terms have a share in it, four are idle
    x_t = network(z_1, ..., z_t)                    the inputs: one random, frozen minGRU for each term

An average of numbers in (0, 1) lies in (0, 1), where all four functions are defined and monotone; its
standard deviation is 0.046 around 0.5, and the functions have 30, 9, 20 and 40 % of the target's variance
(sin, cos, sqrt, square). There is no noise: what a model misses is its own error, or is not in x.

A model sees x, not z. Where x_t rises or falls with z_t throughout, whatever came before, the inputs so far
tell the latents; where it does not, two latents give one input, and no model can recover the term. The
"monotone" generator is drawn so that the four real terms are of the first kind. The "notebook" generator is
drawn without that condition, as is that of example.ipynb in the original rnam (Kachelriess, 2025), from
which the latents, the target and the shape of the network are known; the code here is new.

terms are 8, batch counts sequences, seq steps of time. The first 8 steps are a warm-up: they count in the
averages and in the states of the networks, and no input shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

import rnam

Kind = Literal["monotone", "notebook"]

COMPONENTS = ("sin", "cos", "sqrt", "square")  # of terms 0 to 3
REAL = len(COMPONENTS)
TERMS = 2 * REAL
DECAY = 0.95
WARMUP = 8  # steps

# A term is monotone when no slope of its input is less than this share of its mean slope. About 65 % of the
# random networks are; with the margin at 0 they would be 67 %, so nearly all the others turn round.
MARGIN = 0.1
_CANDIDATES = 64  # networks drawn for the terms; that fewer than 4 are monotone has a chance below 1e-20
_CHUNK = 32_000  # steps, of all sequences, made at once: 400 MB of working memory


class Generator(nn.Module):
    """A random network for each term: Linear(1, width), minGRU(width), Linear(width, 1).

    Args:
        terms: the number of networks.
        width: their width, 32 in the original's task.
    """

    def __init__(self, terms: int = TERMS, width: int = 32) -> None:
        super().__init__()
        self.emb = rnam.Linear(terms, 1, width)
        self.gru = rnam.minGRU(terms, width)
        self.proj = rnam.Linear(terms, width, 1)
        self.requires_grad_(False)

    def forward(self, latents: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """latents (terms, batch, seq, 1) -> inputs of the same shape, and the state after the last step."""
        hidden, state = self.gru(self.emb(latents), state)
        inputs: Tensor = self.proj(hidden)
        return inputs, state

    def take(self, terms: Sequence[int]) -> Generator:
        """A generator of some of the networks."""
        taken = Generator(len(terms), self.proj.in_dim)
        taken.load_state_dict({name: value[list(terms)] for name, value in self.state_dict().items()})
        return taken


@dataclass(frozen=True)
class Samples:
    """Sequences, with the truth at their last steps.

    inputs     (terms, batch, seq, 1)  standardised: each term has mean 0 and deviation 1 in training
    target     (batch, last)           standardised in the same way
    components (REAL, batch, last)     what the real terms add to the target, in its deviations; not centred
    averages   (terms, batch)          the exponential averages at the last step, in the latents' unit
    """

    inputs: Tensor
    target: Tensor
    components: Tensor
    averages: Tensor

    def to(self, device: torch.device) -> Samples:
        return Samples(*(value.to(device) for value in vars(self).values()))

    def __len__(self) -> int:
        return self.target.shape[0]


def exponential_averages(latents: Tensor) -> Tensor:
    """m_t = 0.95 m_{t-1} + 0.05 z_t from m_0 = 0. (..., seq) -> (..., seq), in float64."""
    values = (1 - DECAY) * latents.double()[..., None]
    return rnam.functional.linear_scan(torch.full_like(values, DECAY), values)[..., 0]


def components(averages: Tensor) -> Tensor:
    """sin, cos, sqrt and square of the averages of terms 0 to 3. (terms, ...) -> (REAL, ...)."""
    first, second, third, fourth = averages[:REAL]
    return torch.stack([first.sin(), second.cos(), third.sqrt(), fourth.square()])


@torch.no_grad()
def monotonicity(generator: Generator, *, seed: int = 0, histories: int = 64, grid: int = 33) -> Tensor:
    """How far each term's input is from turning round, as a function of the latent of the same step.

    From each of `histories` states, reached by 32 steps of random latents, the inputs at `grid` latents from
    0 to 1 are computed, and the slopes between neighbours. The answer is the smallest slope, in the direction
    of the mean slope, over the size of the mean slope: 1 for a straight line, 0 or less where the input is
    flat or turns round.

    Returns:
        (terms,), at most 1. A constant input gives -inf.
    """
    weight = generator.emb.weight
    terms = weight.shape[0]
    past = torch.rand(terms, histories, 32, 1, generator=torch.Generator().manual_seed(seed))
    _, states = generator(past.to(weight))
    latents = torch.linspace(0, 1, grid).to(weight).repeat(histories).expand(terms, -1)[..., None, None]
    inputs, _ = generator(latents, states.repeat_interleave(grid, dim=1))
    slopes = inputs.view(terms, histories, grid).diff(dim=2).flatten(1)
    mean = slopes.mean(1)
    smallest = (slopes * mean.sign()[:, None]).amin(1)
    return torch.where(mean == 0, -torch.inf, smallest / mean.abs())


def check_monotone(generator: Generator, *, seed: int = 0) -> None:
    """Raise ValueError unless the inputs of the real terms are monotone in their latents."""
    found = monotonicity(generator, seed=seed)[:REAL].tolist()
    if not all(value >= MARGIN for value in found):
        listed = ", ".join(f"{name} {value:.3f}" for name, value in zip(COMPONENTS, found, strict=True))
        raise ValueError(
            f"generator must be monotone in the latents of the real terms, with smallest slopes of at least "
            f"{MARGIN} of the mean slopes, got {listed}: such terms cannot be recovered"
        )


def make_generator(kind: Kind, seed: int) -> Generator:
    """The networks of the 8 terms, drawn from `seed` with rnam's initialisation, on the CPU.

    "notebook" takes the first 8 drawn. "monotone" takes the first 4 that are monotone for the real terms and
    the first 4 of the rest for the idle ones, and then checks them with other histories.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {', '.join(map(repr, get_args(Kind)))}, got {kind!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn = Generator(_CANDIDATES)
        if kind == "notebook":
            return drawn.take(range(TERMS))
        passed = (monotonicity(drawn, seed=seed) >= MARGIN).nonzero()[:REAL, 0].tolist()
        rest = [term for term in range(_CANDIDATES) if term not in passed]
        generator = drawn.take(passed + rest[: TERMS - len(passed)])
    check_monotone(generator, seed=seed + 1)
    return generator


@torch.no_grad()
def make_samples(
    generator: Generator, seed: int, train: int, validation: int, steps: int, last: int
) -> tuple[Samples, Samples]:
    """Draw `train` and `validation` sequences, on the CPU.

    Args:
        generator: the networks, on the CPU.
        seed: of the latents.
        train, validation: numbers of sequences, at least 2.
        steps: the length of the inputs.
        last: at how many of the last steps the truth is given.

    Returns:
        Samples for training and for validation, both standardised with the statistics of the first.
    """
    random = torch.Generator().manual_seed(seed)
    inputs, averages = [], []
    for rows in torch.split(torch.arange(train + validation), max(1, _CHUNK // steps)):
        latents = torch.rand(TERMS, len(rows), WARMUP + steps, generator=random)
        inputs.append(generator(latents[..., None])[0][:, :, WARMUP:])
        averages.append(exponential_averages(latents)[..., -last:])
    x, m = torch.cat(inputs, dim=1), torch.cat(averages, dim=1)
    parts = components(m)
    target = parts.sum(0)
    known_x, known_target = x[:, :train], target[:train]
    x = (x - known_x.mean((1, 2), keepdim=True)) / known_x.std((1, 2), correction=0, keepdim=True)
    scale = known_target.std(correction=0)
    target = ((target - known_target.mean()) / scale).float()
    parts = (parts / scale).float()
    both = Samples(x, target, parts, m[..., -1].float())
    return _rows(both, slice(None, train)), _rows(both, slice(train, None))


def _rows(samples: Samples, rows: slice) -> Samples:
    return Samples(
        samples.inputs[:, rows], samples.target[rows], samples.components[:, rows], samples.averages[:, rows]
    )
