"""The command line: for each seed train, score beside the truth and the baselines, draw."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace

from examples import checkpoint
from examples.options import add_device, add_files, add_seeds, prepare, whole
from examples.plasmode import picture
from examples.plasmode.data import Cohort, Dropped, load
from examples.plasmode.evaluation import ASKED, NOMINAL, Result, evaluate
from examples.plasmode.table import table
from examples.plasmode.training import KINDS, Settings, Task, plans, train
from examples.runtime import folder, provenance, resumable, run, write_results
from examples.training import watch

FORMAT = "rnam examples.plasmode 1"
SEEDS = (0, 1, 2, 3, 4)
SAVE_EVERY = 5  # epochs; a finished model is saved at once


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; the exit status: 0, or 1 after a message, or 130 after Ctrl-C."""
    options = _options(arguments)
    return run(lambda: _run(options), options.device)


def _run(options: argparse.Namespace) -> None:
    people, dropped = load()
    settings = _settings(options)
    if settings.people > len(people.id):
        raise SystemExit(f"error: --people must be at most {len(people.id)}, got {settings.people}")
    prepare(options.out, options.json)
    _print_header(people, dropped, settings)
    results = []
    for seed in options.seeds:
        results.append(_one(replace(settings, seed=seed), people, options))
    print(table(results))
    content = {
        "settings": provenance(settings, people, options.device) | {"seed": list(options.seeds)},
        "data": asdict(dropped) | {"people": len(people.id), "visits": int(people.length.sum())},
        "asked": ASKED,
        "nominal_coverage": NOMINAL,
        "results": [result.report() for result in results],
    }
    write_results(options.json, content)


def _one(settings: Settings, people: Cohort, options: argparse.Namespace) -> Result:
    """Train and score one seed, from its checkpoint on where there is one."""
    task, about = Task.make(people, settings), provenance(settings, people, options.device)
    path = options.out / f"checkpoint-seed{settings.seed}.pt"
    progress = checkpoint.load(path, FORMAT, about, plans(settings), settings.epochs)
    total, done = len(KINDS) * settings.epochs, progress.epochs(settings.epochs)
    if done:
        print(f"Going on from {path}: {done} of {total} epochs are done.", flush=True)
    with resumable(path):
        watch(
            train(task, progress, options.device),
            lambda now: checkpoint.save(path, FORMAT, about, now),
            total=total,
            done=done,
            every=SAVE_EVERY,
            note=lambda now: f"{KINDS[min(len(now.finished), 1)]} model",
            label=f"Seed {settings.seed}",
        )
        result, recovery = evaluate(task, progress.finished, options.device)
        drawing = options.out / f"plasmode-seed{settings.seed}.png"
        picture.draw(task, recovery, result).savefig(drawing)
        print(f"Seed {settings.seed}: picture in {drawing}, checkpoint in {path}", flush=True)
    return result


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, `out` filled in."""
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m examples.plasmode",
        description="Train recurrent neural additive models on real lab visits with a simulated outcome, and hold "
        "their terms against the truth. Interrupted, the same command goes on.",
    )
    add = parser.add_argument
    add_device(parser)
    add_seeds(parser, SEEDS, "of people, outcome and models, a run each")
    people = f"half to train and half to test (default: {default.people})"
    add("--people", type=whole(20), default=default.people, help=people)
    add("--epochs", type=whole(1), default=default.epochs, help="of each model (default: %(default)s)")
    add("--members", type=whole(2), default=default.members, help="of each ensemble (default: %(default)s)")
    add_files(parser, "plasmode", "people, epochs, members and device", "settings, scores and coverage")
    options = parser.parse_args(arguments)
    options.out = options.out or folder("plasmode", default, _settings(options), options.device)
    return options


def _settings(options: argparse.Namespace) -> Settings:
    """The settings but for the seed: each seed has its own checkpoint in one folder."""
    return Settings(people=options.people, epochs=options.epochs, members=options.members)


def _print_header(people: Cohort, dropped: Dropped, settings: Settings) -> None:
    print(
        f"{people.length.sum():,} visits of {len(people.id):,} people of a population study of fatty liver disease; "
        f"the outcome is simulated.\n"
        f"Of {dropped.rows:,} rows, {dropped.copies:,} are chol and dbp, copies of hdl and sbp; {dropped.duplicates:,} "
        f"exact duplicates and {dropped.impossible:,} impossible values are dropped too.\n"
        f"{settings.people:,} people a seed, half to train and half to test; ensembles of {settings.members}, "
        f"{settings.epochs} epochs.\n",
        flush=True,
    )
