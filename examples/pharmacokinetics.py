"""Does it help to know how long a step took? Train on simulated infusions at irregular times, and compare.

    python -m examples.pharmacokinetics             three seeds, a minute or two on a CPU
    python -m examples.pharmacokinetics --seed 0    one of them

Two drugs are infused at rates that change at irregular times, from minutes to days apart. The concentration of each
relaxes towards its rate with a half-life of its own, c' = (rate - c) / tau, and the effect is a sum of one saturating
function of each. A model sees the rates, each of which held since the step before, and the effect with noise; it never
sees a concentration. Three models have the same networks and start at the same time scales:

    continuous    times: the memory decays by what passed (`continuous=True`)
    gap           the logarithm of the gap as one more input of each term, as one has it without
    steps         neither

The error is the root mean square against the effect without noise, over all steps but the first ones, on people that
no model saw.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import rnam
from examples.training import fit

TAU = (2.0, 20.0)  # hours
TIMESCALES = (1.0, 40.0)
WARMUP = 4  # steps that no loss and no error count
NOISE = 0.05


class People(NamedTuple):
    """rates (people, steps, 2); times (people, steps) in hours; effect (people, steps, 1), without noise."""

    rates: Tensor
    times: Tensor
    effect: Tensor


def simulate(people: int, steps: int, generator: torch.Generator) -> People:
    """Gaps are log-normal about an hour; a rate is off at every other step, and differs from step to step. The first
    step is before any drug."""
    gaps = torch.randn(people, steps, generator=generator, dtype=torch.float64).mul(1.3).exp()
    gaps[:, 0] = 0
    on = torch.rand(people, steps, 2, generator=generator) < 0.5
    rates = torch.where(on, torch.rand(people, steps, 2, generator=generator, dtype=torch.float64) * 3, 0)
    rates[:, 0] = 0
    concentration, every = torch.zeros(people, 2, dtype=torch.float64), []
    for t in range(steps):
        kept = torch.exp(-gaps[:, t, None] / torch.tensor(TAU, dtype=torch.float64))
        concentration = kept * concentration + (1 - kept) * rates[:, t]
        every.append(concentration)
    first, second = torch.stack(every, dim=1).unbind(-1)
    effect = 2 * first / (1 + first) - torch.sqrt(second + 0.1)
    return People(rates.float(), gaps.cumsum(1).float(), effect[..., None].float())


def continuous() -> rnam.RNAM:
    return rnam.RNAM(2, 12, 1, 1, columns=[[0], [1]], timescales=TIMESCALES, continuous=True)


def gap_as_input() -> rnam.RNAM:
    return rnam.RNAM(2, 12, 1, 1, columns=[[0, 2], [1, 2]], timescales=TIMESCALES)


def steps_alone() -> rnam.RNAM:
    return rnam.RNAM(2, 12, 1, 1, columns=[[0], [1]], timescales=TIMESCALES)


MODELS: dict[str, Callable[[], rnam.RNAM]] = {"continuous": continuous, "gap": gap_as_input, "steps": steps_alone}


def predict(model: rnam.RNAM, people: People) -> Tensor:
    """The effect at every step; each model reads what it has columns and times for."""
    gaps = people.times.diff(dim=1, prepend=people.times.new_zeros(len(people.times), 1))
    input = torch.cat([people.rates, gaps.clamp(min=1e-3).log()[..., None]], dim=-1)
    times = people.times if model.reads_times else None
    prediction: Tensor = model(input, times=times, return_sequence=True).prediction
    return prediction[:, WARMUP:]


def train(name: str, seed: int, training: People, epochs: int, batch: int = 32) -> rnam.RNAM:
    """One of the models, trained on what is seen with noise."""
    torch.manual_seed(seed)
    model = MODELS[name]()
    seen = training._replace(effect=training.effect + NOISE * torch.randn(training.effect.shape))

    def batches(epoch: int) -> Sequence[Tensor]:
        return torch.randperm(len(seen.effect)).split(batch)

    def loss(rows: Tensor) -> Tensor:
        some = People(*(part[rows] for part in seen))
        return F.mse_loss(predict(model, some), some.effect[:, WARMUP:])

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in fit(model, optimizer, batches, loss, rate=1e-2, epochs=epochs, running=None):
        pass
    return model


def compare(seed: int, people: int = 256, steps: int = 24, epochs: int = 40) -> dict[str, float]:
    """The error of each model."""
    generator = torch.Generator().manual_seed(seed)
    training, validation = simulate(people, steps, generator), simulate(1024, steps, generator)
    errors = {}
    for name in MODELS:
        model = train(name, seed, training, epochs)
        with torch.no_grad():
            errors[name] = float(F.mse_loss(predict(model, validation), validation.effect[:, WARMUP:]).sqrt())
    return errors


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.pharmacokinetics", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, action="append", help="instead of 0, 1 and 2; may be given several times")
    for seed in parser.parse_args(arguments).seed or [0, 1, 2]:
        errors = compare(seed)
        row = "   ".join(f"{name} {error:.4f}" for name, error in errors.items())
        print(f"seed {seed}   {row}   continuous / gap {errors['continuous'] / errors['gap']:.2f}")


if __name__ == "__main__":
    main()
