"""The command line: folds by person, the same for every method; errors, bands and a picture."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas
import torch

from examples import report
from examples.finished import Finished
from examples.options import add_files, add_seeds, prepare, whole
from examples.pieces import complete
from examples.remifentanil import picture
from examples.remifentanil.data import OUTSIDE, TARGET, Floats, Fold, as_panel, folds, load, measured
from examples.remifentanil.methods import Settings, boosting, gru, recurrent, splines, told
from examples.runtime import named, resumable, run, versions, write_results
from rnam import explain

FOLDS, LEVEL = 5, 0.9
CONTINUOUS, GAP = "RNAM, continuous time", "RNAM, log gap as an input"
GRU = "GRU, a black box"
OTHERS = {"boosting on exact averages": boosting, "splines of exact averages": splines, GRU: gru}
HEADINGS = {"rmse": "RMSE", "coverage": "in 90% band", "width": "band", "cpu": "CPU s"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; the exit status: 0, or 1 after a message, or 130 after Ctrl-C."""
    options = _options(arguments)
    return run(lambda: _run(options), torch.device("cpu"))


def _run(options: argparse.Namespace) -> None:
    table, settings = load(), Settings(epochs=options.epochs)
    cut = folds(as_panel(table, gap=False), options.folds)
    names = [name for name in (CONTINUOUS, GAP, *OTHERS) if options.all or name != GRU]
    about = {**asdict(settings), "folds": options.folds, "data": joblib.hash(table.to_numpy()), **versions()}
    prepare(options.out, options.json)
    finished = Finished(options.out / "finished.json", about)
    print("Log concentration of remifentanil in 65 people, from the rate of the infusion, age, lean body mass and sex.")
    print(f"{len(cut)} groups of people are held out in turn.\n", flush=True)
    with resumable(finished.path):
        pieces = {
            _key(seed, fold, name): (_predicted, (name, table, fold, seed, settings, options.out))
            for seed in options.seeds for fold in cut for name in names
        }  # fmt: skip
        complete(finished, pieces, options.jobs)
        held = [measured(table, fold.test) for fold in cut]
        done = {m: [[finished.done[_key(seed, f, m)] for f in cut] for seed in options.seeds] for m in names}
        found = {
            part: {name: [scores(held, own, left_out) for own in rows] for name, rows in done.items()}
            for part, left_out in (("everyone", ()), ("inside", OUTSIDE))
        }
        shown = [np.array(piece["result"]) for piece in done[CONTINUOUS][0]]
        picture.draw(table, *banded(held, shown)).savefig(options.out / "remifentanil.png")
    tables = {part: report.table(own, options.seeds, HEADINGS, least=True) for part, own in found.items()}
    print(f"\nPeople whom no part of the model saw:\n\n{tables['everyone']}")
    print(f"\nThe same without persons {OUTSIDE}, whose rates are far above all others:\n\n{tables['inside']}")
    print(f"\nPicture      {options.out / 'remifentanil.png'}  (seed {options.seeds[0]})")
    print(f"Models       {options.out / 'models'}")
    content = {part: report.as_json(own, options.seeds) for part, own in found.items()}
    write_results(options.json, {"settings": about, "seeds": options.seeds, "scores": content})


def _predicted(name: str, table: pandas.DataFrame, fold: Fold, seed: int, settings: Settings, out: Path) -> list[float]:
    """Of the concentrations of a fold. The RNAMs are saved."""
    if name in OTHERS:
        return OTHERS[name](table, fold, seed, settings).tolist()
    continuous = name == CONTINUOUS
    model = recurrent(table, fold, seed, settings, continuous=continuous)
    file = saved(out, seed, fold, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    model.save(file, overwrite=True)
    return told(model, table, fold.test, continuous=continuous).tolist()


def saved(out: Path, seed: int, fold: Fold, name: str) -> Path:
    """The file of a model."""
    return out / "models" / f"{_key(seed, fold, name)}.rnam"


def _key(seed: int, fold: Fold, name: str) -> str:
    return f"seed {seed}, {fold.name}, {name}"


def banded(held: Sequence[pandas.DataFrame], predicted: Sequence[Floats]) -> tuple[pandas.DataFrame, float]:
    """The measured records with `predicted`, `lower` and `upper`, and the coverage by person.

    held: the records of each fold; predicted: those of each, from models that did not see its people. A fold's band is
    made of the other folds' errors, in which each person counts alike.
    """
    parts, covered = [], []
    for n, (own, found) in enumerate(zip(held, predicted, strict=True)):
        others = pandas.concat([*held[:n], *held[n + 1 :]])
        errors = np.concatenate([*predicted[:n], *predicted[n + 1 :]])
        bands = explain.conformal(errors, others[TARGET], groups=others["person"], level=LEVEL)
        covered.append(bands.coverage(found, own[TARGET], groups=own["person"]).shares)
        parts.append(own.assign(predicted=found, **bands.band(found)._asdict()))
    return pandas.concat(parts), np.concatenate(covered).mean().item()


def scores(
    held: Sequence[pandas.DataFrame], done: Sequence[Mapping[str, Any]], left_out: Sequence[int]
) -> dict[str, float]:
    """Of the pieces of work of all folds, without the people who are left out.

    rmse: of all log concentrations. coverage: the mean over people of the share in a 90% band; width: the upper end
    over the lower one. cpu: seconds, of everyone.
    """
    inside = [~own["person"].isin(left_out).to_numpy() for own in held]
    rows, coverage = banded(
        [own[there] for own, there in zip(held, inside, strict=True)],
        [np.array(piece["result"])[there] for piece, there in zip(done, inside, strict=True)],
    )
    return {
        "rmse": float(np.sqrt(((rows["predicted"] - rows[TARGET]) ** 2).mean())),
        "coverage": coverage,
        "width": float(np.exp((rows["upper"] - rows["lower"]).mean())),
        "cpu": sum(piece["cpu"] for piece in done),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, `out` filled in."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.remifentanil",
        description="Predict concentrations at irregular minutes by a memory that decays by the time that passed, and "
        "by others, and draw three people. Interrupted, the same command goes on.",
    )
    add, epochs = parser.add_argument, Settings().epochs
    add_seeds(parser, [0], "of the models")
    add("--folds", type=whole(2, 10), default=FOLDS, help="groups of people (default: %(default)s)")
    add("--epochs", type=whole(1), default=epochs, help="of a network (default: %(default)s)")
    add("--all", action="store_true", help="a GRU, too")
    add("--jobs", type=whole(1, 64), default=2, help="processes (default: %(default)s)")
    add_files(parser, "remifentanil", "folds and epochs")
    options = parser.parse_args(arguments)
    usual = {"folds": FOLDS, "epochs": epochs}
    options.out = options.out or named("remifentanil", usual, {"folds": options.folds, "epochs": options.epochs})
    return options
