"""Does an additive model find the truth? Train on sequences whose contributions are known, and compare.

    python -m examples.friedman                     three seeds, minutes on a CPU
    python -m examples.friedman --seed 0            one of them
    python -m examples.friedman --generator notebook --steps 1024     the original's task; use a GPU

Interrupted, the same command goes on after the last seed that was through.

Eight terms, four of which have a share in the target, each by a function of its own of a latent average
(examples/friedman_data.py tells how the sequences are made). The model sees inputs and target alone. Each
term's contribution is held against its truth at the last step of each validation sequence: the step that a
forecast is asked for, and one sample from each sequence, so that the samples are independent.

    correlation   of the contribution with the truth, over sequences: at least 0.95 for each real term
    idle share    variance of the sum of the four idle contributions over the variance of the target:
                  at most 0.005
    MSE           of the prediction, on targets of variance 1

Beside it stand a ridge regression and gradient boosting on what sums up a sequence, a ridge regression on the last
values, and the same model on the last values (T = 1), so that it shows what the recurrence bought.

A model of this kind tells its terms only up to a constant, so contributions and truths are centred in the
picture. With the monotone generator the loss is that of the last 32 steps (`return_sequence=True`): each is a
target of its own, and 128 steps are enough for the averages to forget where they began. With the notebook
generator it is that of the last step, and the model has 4 blocks and the optimiser a constant rate, as in
example.ipynb of the original rnam, which printed a validation MSE of 0.077 after its 25 epochs. The random
numbers are others, and the standardising takes its statistics from the training sequences alone. Of single
terms nothing is asked there: those whose networks are not monotone cannot be recovered.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

import rnam
from examples.checkpoint import CheckpointError
from examples.finished import Finished
from examples.friedman_data import (
    COMPONENTS,
    REAL,
    TERMS,
    Kind,
    Samples,
    make_generator,
    make_samples,
    monotonicity,
)
from examples.options import LARGEST_SEED, add_device, add_files, add_seeds, prepare, whole
from examples.runtime import folder, resumable, write_results

CORRELATION = 0.95  # of each real term, at least
IDLE_SHARE = 0.005  # of the idle terms together, at most


@dataclass(frozen=True)
class Settings:
    """A task and how it is learned. `train` sequences for training, a quarter as many for validation.

    `last`: the loss is the mean over this many last steps. `cycle`: the rate rises to `rate` and falls to 0
    (OneCycleLR); without, it is constant.
    """

    generator: Kind
    steps: int
    train: int
    epochs: int
    batch: int
    rate: float
    cycle: bool
    last: int
    blocks: int
    hidden: int = 8

    @property
    def batches(self) -> int:
        """Of one epoch; the last one may be smaller."""
        return -(-self.train // self.batch)

    @property
    def validation(self) -> int:
        return self.train // 4


SETTINGS: dict[Kind, Settings] = {
    "monotone": Settings(
        "monotone", steps=128, train=8000, epochs=6, batch=64, rate=5e-3, cycle=True, last=32, blocks=2
    ),
    "notebook": Settings(
        "notebook", steps=1024, train=8000, epochs=25, batch=128, rate=1e-3, cycle=False, last=1, blocks=4
    ),
}


@dataclass(frozen=True)
class Recovery:
    """What a model says at the last step of the validation sequences, beside the truth.

    contributions (TERMS, sequences)  centred, in deviations of the target, as is truth
    truth         (TERMS, sequences)  centred; 0 for the idle terms
    averages      (TERMS, sequences)  of the latents, in their unit
    mse           of the prediction
    """

    contributions: Tensor
    truth: Tensor
    averages: Tensor
    mse: float

    def correlations(self) -> list[float]:
        """Of each real term; 0 where a contribution is constant."""
        cosines = F.cosine_similarity(self.contributions[:REAL], self.truth[:REAL], dim=1)
        return [float(value) for value in cosines]

    def idle_share(self) -> float:
        """Variance of the idle terms' sum over the variance of the target, which is the sum of the truths."""
        idle, target = self.contributions[REAL:].sum(0), self.truth.sum(0)
        return float(idle.square().mean() / target.square().mean())


@dataclass(frozen=True)
class Result:
    """One seed. `monotonicity`: of each term's input in its latent, see `friedman_data.monotonicity`; `others`: the MSE
    of the same model with T = 1 and of the baselines."""

    seed: int
    mse: float
    correlations: dict[str, float]
    idle_share: float
    monotonicity: list[float]
    others: dict[str, float]
    minutes: float

    @property
    def recovered(self) -> bool:
        return min(self.correlations.values()) >= CORRELATION and self.idle_share <= IDLE_SHARE


@torch.no_grad()
def recover(model: rnam.RNAM, samples: Samples, batch: int = 500) -> Recovery:
    """Run the model over all sequences and hold its contributions at the last step against the truth."""
    outputs = [model(inputs) for inputs in torch.split(samples.inputs, batch, dim=1)]
    prediction = torch.cat([output.prediction for output in outputs])[:, 0].double()
    contributions = torch.cat([output.contributions for output in outputs], dim=1)[..., 0].double()
    truth = torch.zeros_like(contributions)
    truth[:REAL] = samples.components[..., -1]
    return Recovery(
        contributions=contributions - contributions.mean(1, keepdim=True),
        truth=truth - truth.mean(1, keepdim=True),
        averages=samples.averages,
        mse=float(F.mse_loss(prediction, samples.target[:, -1].double())),
    )


def fit(
    model: rnam.RNAM,
    training: Samples,
    validation: Samples,
    settings: Settings,
    advance: Callable[[float], object],
) -> None:
    """Minimise the squared error with AdamW. After each batch `advance` gets the latest validation MSE."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate)
    schedule = _schedule(optimizer, settings)
    last, mse = training.target.shape[1], float("nan")
    for _ in range(settings.epochs):
        order = torch.randperm(len(training)).to(training.target.device)
        for number, rows in enumerate(torch.split(order, settings.batch), start=1):
            output = model(training.inputs[:, rows], return_sequence=last > 1)
            prediction = output.prediction[:, -last:, 0] if last > 1 else output.prediction
            optimizer.zero_grad()
            torch.autograd.backward(F.mse_loss(prediction, training.target[rows]))
            optimizer.step()
            schedule.step()
            if number == settings.batches:
                mse = recover(model, validation).mse
            advance(mse)


def _schedule(optimizer: torch.optim.Optimizer, settings: Settings) -> torch.optim.lr_scheduler.LRScheduler:
    if settings.cycle:
        total = settings.epochs * settings.batches
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, total_steps=total, pct_start=0.15)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)


def run(settings: Settings, seed: int, device: torch.device) -> tuple[Result, Recovery]:
    """Make the sequences, train a model, compare. All that is random comes from `seed`."""
    tqdm, baselines = _module("tqdm").tqdm, _module("examples.friedman_baselines")
    start = time.perf_counter()
    generator = make_generator(settings.generator, seed)
    last = min(settings.last, settings.steps)
    training, validation = make_samples(generator, seed, settings.train, settings.validation, settings.steps, last)
    training, validation = training.to(device), validation.to(device)
    short = replace(settings, train=settings.train * last, batch=settings.batch * last, last=1)  # as many batches

    def train(samples: Samples, held: Samples, chosen: Settings, what: str) -> Recovery:
        with torch.random.fork_rng(devices=[]):  # parameters and orders are drawn on the CPU
            torch.manual_seed(seed)
            model = rnam.RNAM(TERMS, settings.hidden, out_dim=1, blocks=settings.blocks).to(device)
            with tqdm(total=settings.epochs * settings.batches, desc=f"seed {seed}{what}", unit="batch") as bar:

                def advance(mse: float) -> None:
                    bar.set_postfix(validation_mse=f"{mse:.4f}", refresh=False)
                    bar.update()

                fit(model, samples, held, chosen, advance)
        return recover(model, held)

    recovery = train(training, validation, settings, "")
    alone = train(baselines.one_step(training), baselines.at_the_end(validation), short, ", T = 1")
    result = Result(
        seed=seed,
        mse=recovery.mse,
        correlations=dict(zip(COMPONENTS, recovery.correlations(), strict=True)),
        idle_share=recovery.idle_share(),
        monotonicity=monotonicity(generator, seed=seed).tolist(),
        others={"RNAM, T = 1": alone.mse} | baselines.errors(training, validation, seed),
        minutes=(time.perf_counter() - start) / 60,
    )
    return result, recovery


def draw(recovery: Recovery, title: str, path: Path) -> None:
    """One panel per term: truth (line) and contribution (dots) over the average that the truth is made of."""
    figure_class = _module("matplotlib.figure").Figure  # no pyplot: nothing global, no window
    figure = figure_class(figsize=(12, 6.4), layout="constrained")
    panels = figure.subplots(2, REAL, sharex=True, sharey=True)
    correlations = recovery.correlations()
    for term, axes in enumerate(panels.flat):
        order = recovery.averages[term].argsort()
        x, dots, line = (v[term][order].cpu() for v in (recovery.averages, recovery.contributions, recovery.truth))
        axes.scatter(x, dots, s=7, color="tab:blue", alpha=0.35, linewidths=0, label="contribution", rasterized=True)
        axes.plot(x, line, color="black", linewidth=1.6, label="truth")
        if term < REAL:
            axes.set_title(f"{COMPONENTS[term]}, correlation {correlations[term]:.3f}")
        else:
            share = float(recovery.contributions[term].square().mean() / recovery.truth.sum(0).square().mean())
            axes.set_title(f"idle, {100 * share:.1g} % of the variance")
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
    panels[0, 0].legend(loc="upper left", markerscale=2.5, framealpha=1)
    figure.suptitle(title)
    figure.supxlabel("exponential average of the term's latent at the last step")
    figure.supylabel("share in the target, centred (standard deviations of the target)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def table(results: Sequence[Result], kind: Kind) -> str:
    """A line for each seed, and what is asked of it where the terms can be recovered."""
    head = ["seed", "val MSE", *(f"corr {name}" for name in COMPONENTS), "idle share", "minutes"]
    lines = [
        [
            str(r.seed),
            f"{r.mse:.4f}",
            *(f"{r.correlations[name]:.3f}" for name in COMPONENTS),
            f"{r.idle_share:.5f}",
            f"{r.minutes:.1f}",
        ]
        for r in results
    ]
    if kind == "monotone":
        lines.append(["asked", "", *[f">= {CORRELATION}"] * REAL, f"<= {IDLE_SHARE}", ""])
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (head, *lines)
    )


def comparison(results: Sequence[Result]) -> str:
    """The validation MSE of every method, a column for each seed."""
    rows = [("RNAM", *(r.mse for r in results))]
    rows += [(name, *(r.others[name] for r in results)) for name in results[0].others]
    width = max(len(str(name)) for name, *_ in rows)
    lines = ["val MSE".ljust(width) + "".join(f"  {f'seed {r.seed}':>8}" for r in results)]
    return "\n".join([*lines, *(f"{name:{width}}" + "".join(f"  {x:8.4f}" for x in mses) for name, *mses in rows)])


def report(settings: Settings, device: torch.device, results: Sequence[Result]) -> dict[str, Any]:
    """What --json writes."""
    return {
        "settings": asdict(settings) | {"device": str(device), "validation": settings.validation},
        "asked": {"correlation": CORRELATION, "idle_share": IDLE_SHARE},
        "results": [asdict(result) | {"recovered": result.recovered} for result in results],
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": str(torch.__version__), "rnam": rnam.__version__}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; the exit status: 0, or 1 after a message, or 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except KeyboardInterrupt as stop:
        print(f"\nInterrupted. {stop}".rstrip(), file=sys.stderr)
        return 130
    except (OSError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    for name in ("tqdm", "matplotlib", "examples.friedman_baselines"):
        _module(name)  # now, not after minutes of training
    given = {name: value for name in ("steps", "epochs", "train") if (value := getattr(options, name))}
    usual = SETTINGS[options.generator]
    settings = replace(usual, **given)
    name = "friedman" if options.generator == "monotone" else "friedman-notebook"
    out = options.out or folder(name, usual, settings, options.device)
    prepare(out, options.json)
    finished = Finished(out / "finished.json", asdict(settings) | {"device": str(options.device), **_versions()})
    results = []
    for seed in options.seeds:
        picture = out / f"contributions-{settings.generator}-seed{seed}.png"
        if str(seed) not in finished.done or not picture.exists():
            with resumable(finished.path):
                result, recovery = run(settings, seed, options.device)
                draw(recovery, f"{settings.generator} generator, seed {seed}: validation MSE {result.mse:.4f}", picture)
                finished.add(str(seed), asdict(result))
        result = Result(**finished.done[str(seed)])
        results.append(result)
        slopes = ", ".join(f"{name} {slope:.2f}" for name, slope in zip(COMPONENTS, result.monotonicity, strict=False))
        print(f"seed {seed}: smallest slope of the input over its mean slope: {slopes}")
        print(f"seed {seed}: picture in {picture}")
    print(table(results, settings.generator))
    print(comparison(results))
    write_results(options.json, report(settings, options.device, results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.friedman",
        description="Train an additive model on sequences whose contributions are known, and compare.",
    )
    add = parser.add_argument
    add("--generator", choices=get_args(Kind), default="monotone", help="of the inputs (default: monotone)")
    add_seeds(parser, [0, 1, 2], "one run each", LARGEST_SEED)
    add("--steps", type=whole(1), help="length of the sequences (default: 128, notebook: 1024)")
    add("--epochs", type=whole(1), help="passes over the training sequences (default: 6, notebook: 25)")
    add("--train", type=whole(8), help="training sequences, a quarter more for validation (default: 8000)")
    add_device(parser)
    add_files(parser, "friedman", "the options above but for the seeds", "settings, results and versions")
    return parser


def _module(name: str) -> Any:
    """A module of the extra `demo`, which rnam itself does not need."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"examples.friedman needs {error.name}; install the extra `demo`: pip install -e '.[demo]'"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
