"""The command line of the demo: train, score beside a logistic regression, draw one patient."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from examples.options import add_device, add_files, prepare, whole
from examples.pbcseq import checkpoint, picture
from examples.pbcseq.data import HORIZON, Cohort, load, outcome
from examples.pbcseq.evaluation import OutOfFold, Scores, out_of_fold
from examples.pbcseq.training import Fold, Settings, make_folds, train
from examples.runtime import folder, provenance, resumable, run, write_results
from examples.training import Progress, watch

SAVE_EVERY = 5  # epochs; a finished model is saved at once


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status: 0, or 1 after a message, or 130 after Ctrl-C."""
    options = _options(arguments)
    return run(lambda: _run(options), options.device)


def _run(options: argparse.Namespace) -> None:
    settings = _settings(options)
    people = load()
    try:
        made = make_folds(people, settings)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    about = provenance(settings, people, options.device)
    prepare(options.out, options.json)
    path = options.out / "checkpoint.pt"
    progress = checkpoint.load(path, about, settings, made)
    with resumable(path):
        _print_header(people, settings, options.device)
        _train(path, about, made, settings, progress, options.device)
        result = out_of_fold(people, made, settings, progress, options.device)
        _report(options, people, result, settings, about)
    print(f"Checkpoint   {path}")


def _train(
    path: Path,
    about: dict[str, Any],
    made: list[Fold],
    settings: Settings,
    progress: Progress,
    where: torch.device,
) -> None:
    """Finish `progress`, with a bar, and keep it in the checkpoint `path`."""
    total, done = settings.folds * settings.members * settings.epochs, progress.epochs(settings.epochs)
    if done:
        print(f"Going on from {path}: {done} of {total} epochs are done.", flush=True)

    def note(now: Progress) -> str:
        return f"fold {min(len(now.finished) // settings.members + 1, settings.folds)} of {settings.folds}"

    watch(
        train(made, settings, progress, where),
        lambda now: checkpoint.save(path, about, now),
        total=total,
        done=done,
        every=SAVE_EVERY,
        note=note,
    )


def _report(
    options: argparse.Namespace, people: Cohort, result: OutOfFold, settings: Settings, about: dict[str, Any]
) -> None:
    """Scores, picture and the file that --json names."""
    scores = {
        "rnam": result.scores(result.probability),
        "logistic_regression": result.scores(result.regression),
    }
    person = picture.choose(people, result)
    drawing = options.out / "patient.png"
    picture.draw(people, result, person).savefig(drawing)
    _print_table(scores, settings)
    print(f"\nPicture      {drawing}  (patient {people.id[person]})")
    content = {
        "settings": about,
        "visits": {"known": int((result.weight > 0).sum()), "all": int(people.length.sum())},
        **{name: row._asdict() for name, row in scores.items()},
        "patient": int(people.id[person]),
    }
    write_results(options.json, content)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, `out` filled in."""
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m examples.pbcseq",
        description="Train recurrent neural additive models on the clinic visits of 312 liver patients, "
        "score them beside a logistic regression, draw one patient. Interrupted, the same command goes on.",
    )
    add = parser.add_argument
    add_device(parser)
    add("--seed", type=whole(0), default=default.seed, help="of folds and models (default: %(default)s)")
    add("--folds", type=whole(2), default=default.folds, help="by person (default: %(default)s)")
    add("--epochs", type=whole(1), default=default.epochs, help="of each model (default: %(default)s)")
    add_files(parser, "pbcseq", "the options above")
    options = parser.parse_args(arguments)
    options.out = options.out or folder("pbcseq", default, _settings(options), options.device)
    return options


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(seed=options.seed, folds=options.folds, epochs=options.epochs)


def _print_header(people: Cohort, settings: Settings, device: torch.device) -> None:
    positive, known = outcome(people)
    print(
        f"{people.length.sum():,} clinic visits of {len(people.id)} people with primary biliary cirrhosis, who "
        f"entered a trial\nof the Mayo Clinic from 1974 to 1984.\n"
        f"At each visit: the probability of death or transplant within {HORIZON} days, from that visit and "
        f"earlier ones.\n"
        f"The outcome is known at {known.sum():,} visits and came at {positive.sum()}; the others were "
        f"censored before.\n"
        f"{settings.folds} folds by person, {settings.members} models in each, {settings.epochs} epochs, "
        f"seed {settings.seed}, on {device}.\n",
        flush=True,
    )


def _print_table(scores: dict[str, Scores], settings: Settings) -> None:
    print(f"\nPeople not trained on, {settings.folds} folds pooled:\n")
    print(f"{'':26}{'AUC':>8}{'Brier skill':>14}{'calibration slope':>20}")
    names = {"rnam": "RNAM", "logistic_regression": "logistic regression"}
    for key, row in scores.items():
        print(f"  {names[key]:24}{row.auc:8.3f}{row.brier_skill:14.3f}{row.calibration_slope:20.2f}")
    print("\nBeside more methods, and the same model with T = 1, on three seeds: python -m examples.pbcseq.compare")
