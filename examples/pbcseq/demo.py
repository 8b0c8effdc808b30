"""The command line of the demo: train, score beside a logistic regression, draw one patient."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from types import SimpleNamespace

from examples.finished import Finished
from examples.options import LARGEST_SEED_OF_SKLEARN, add_device, add_files, prepare, whole
from examples.pbcseq import data, picture
from examples.pbcseq.compare.methods import LAST, baseline
from examples.pbcseq.evaluation import out_of_fold, scores
from examples.pbcseq.models import Settings, trained
from examples.runtime import folder, provenance, resumable, run, write_results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status: 0, or 1 after a message, or 130 after Ctrl-C."""
    options = _options(arguments)
    return run(lambda: _run(options), options.device)


def _run(options: argparse.Namespace) -> None:
    settings, frame = options.settings, data.load()
    try:
        made = data.folds(frame, settings.folds, settings.seed)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    arrays = SimpleNamespace(**{str(name): frame[name].to_numpy() for name in frame})
    about = provenance(settings, arrays, options.device)
    prepare(options.out, options.json)
    counts = {"known": int(frame["outcome"].notna().sum()), "all": len(frame)}
    finished = Finished(options.out / "finished.json", about)
    with resumable(finished.path):
        print(
            f"{len(frame):,} clinic visits of {frame['id'].nunique()} people with primary biliary cirrhosis, who "
            f"entered a trial\nof the Mayo Clinic from 1974 to 1984.\nAt each visit: the probability of death or "
            f"transplant within {data.HORIZON} days, from that visit and earlier ones.\nThe outcome is known at "
            f"{counts['known']:,} visits and came at {frame['outcome'].sum():.0f}; the others were censored before.\n"
            f"{settings.folds} folds by person, {settings.members} members in each model, {settings.epochs} epochs, "
            f"seed {settings.seed}, on {options.device}.\n",
            flush=True,
        )
        models = trained(made, settings.model(options.device), finished)
        result, regression = out_of_fold(made, models), baseline(LAST, frame, made, settings.seed)
        patient = picture.choose(frame, result)
        picture.draw(frame, result, patient).savefig(options.out / "patient.png")
    found = {
        "rnam": scores(frame, made, result.probability),
        "logistic_regression": scores(frame, made, regression),
    }
    print(f"\nPeople not trained on, {options.folds} folds pooled:\n")
    print(f"{'':26}{'AUC':>8}{'Brier skill':>14}{'calibration slope':>20}")
    for name, row in zip(("RNAM", "logistic regression"), found.values(), strict=True):
        print(f"  {name:24}{row['auc']:8.3f}{row['brier_skill']:14.3f}{row['calibration_slope']:20.2f}")
    print("\nBeside more methods, and the same model with T = 1, on three seeds: python -m examples.pbcseq.compare")
    print(f"\nPicture      {options.out / 'patient.png'}  (patient {patient})")
    write_results(options.json, {"settings": about, "visits": counts, **found, "patient": patient})
    print(f"Models       {options.out / 'fold0'} to fold{settings.folds - 1}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, with `settings` and `out`."""
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m examples.pbcseq",
        description="Train recurrent neural additive models on the clinic visits of 312 liver patients, "
        "score them beside a logistic regression, draw one patient. Interrupted, the same command goes on.",
    )
    add_device(parser)
    for name, kind, told in (
        ("seed", whole(0, LARGEST_SEED_OF_SKLEARN), "of folds and models"),
        ("folds", whole(2), "by person"),
        ("epochs", whole(1), "of each model"),
    ):
        parser.add_argument(
            f"--{name}", type=kind, default=getattr(default, name), help=f"{told} (default: %(default)s)"
        )
    add_files(parser, "pbcseq", "the options above")
    options = parser.parse_args(arguments)
    options.settings = Settings(seed=options.seed, folds=options.folds, epochs=options.epochs)
    options.out = options.out or folder("pbcseq", default, options.settings, options.device)
    return options
