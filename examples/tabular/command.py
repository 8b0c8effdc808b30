"""The command line: the same folds for every method, their scores, and the shape functions."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from examples import ebm, report
from examples.finished import Finished
from examples.options import Different, add_files, add_seeds, prepare, whole
from examples.runtime import named, resumable, run, versions, write_results
from examples.tabular import picture
from examples.tabular.data import TABLES, Data, Floats
from examples.tabular.methods import EBM, METHODS, NAM, WITH_PAIRS, Ebm, Nam, Settings
from examples.tabular.scores import headings, scores
from examples.training import seed_for

FOLDS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; the exit status: 0, or 1 after a message, or 130 after Ctrl-C."""
    options = _options(arguments)
    return run(lambda: _run(options), torch.device("cpu"))


def _run(options: argparse.Namespace) -> None:
    tables = {name: TABLES[name]() for name in options.data}
    left_out = [] if ebm.version() else [EBM, WITH_PAIRS] if options.all else [EBM]
    if left_out:
        print(ebm.left_out(left_out), flush=True)
    settings = Settings(epochs=options.epochs)
    about = {"folds": options.folds, **versions()}
    prepare(options.out, options.json)
    finished = Finished(options.out / "finished.json", about)
    methods = [name for name in METHODS if name not in left_out and (options.all or name != WITH_PAIRS)]
    plan = list(itertools.product(tables, options.seeds, methods))
    with resumable(finished.path):
        with tqdm(total=len(plan) * options.folds, desc="Fitting", unit="model", dynamic_ncols=True) as bar:
            for name, seed, method in plan:
                key = _key(name, seed, method, settings)
                if key in finished.done:
                    bar.update(options.folds)
                    continue
                bar.set_postfix_str(f"{name}, seed {seed}, {method}", refresh=False)
                predicted = _predicted(tables[name], seed, options.folds, method, settings, bar.update)
                finished.add(key, scores(tables[name], predicted))
        found = {
            name: {m: [finished.done[_key(name, seed, m, settings)] for seed in options.seeds] for m in methods}
            for name in tables
        }
        for name, data in tables.items():
            print(f"\n{data.title}\nRows not trained on, {options.folds} folds pooled:\n")
            print(report.table(found[name], options.seeds, headings(data)))
        drawing, seed = options.out / "shapes.png", options.seeds[0]
        drawn = [data for data in tables.values() if not data.words]
        if drawn:
            _draw(drawn, seed, settings).savefig(drawing)
    if drawn:
        print(f"\nPicture      {drawing}  (models of all rows, seed {seed})")
    content = {
        "settings": about | {ebm.DISTRIBUTION: ebm.version()},
        "nam": asdict(settings),
        "seeds": options.seeds,
        "left_out": left_out,
        "scores": {name: report.as_json(of, options.seeds) for name, of in found.items()},
    }
    write_results(options.json, content)


def _key(data: str, seed: int, method: str, settings: Settings) -> str:
    """The name of a piece of work, with what decides its result: other settings of the NAM leave the rest finished."""
    boosted = f" of {ebm.DISTRIBUTION} {ebm.version()}"
    decides = {NAM: f" of {settings}", EBM: boosted, WITH_PAIRS: boosted}
    return f"{data}, seed {seed}, {method}{decides.get(method, '')}"


def _predicted(
    data: Data, seed: int, folds: int, method: str, settings: Settings, advance: Callable[[], object]
) -> Floats:
    """Out-of-fold predictions (rows,); `advance` is called after each fold."""
    predicted = np.zeros(len(data.target))
    for fold, (train, test) in enumerate(data.folds(folds, seed)):
        model = METHODS[method](data, train, seed_for(seed, fold), settings)
        predicted[test] = model.predict(data.values.iloc[test])
        advance()
    return predicted


def _draw(tables: Sequence[Data], seed: int, settings: Settings) -> Figure:
    """The shape functions of a NAM and an EBM of all rows."""
    parts = []
    for data in tables:
        rows = np.arange(len(data.target))
        boosted = Ebm(data, rows, seed) if ebm.version() else None
        parts.append((data, Nam(data, rows, seed, settings), boosted))
    return picture.draw(parts)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, `out` filled in."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.tabular",
        description="Score the neural additive model beside a linear model and an EBM on three tables, and "
        "draw shape functions of those without words. Interrupted, the same command goes on.",
    )
    add = parser.add_argument
    tables = list(TABLES)
    add("--data", choices=tables, nargs="+", action=Different, default=tables, help="which tables (default: all)")
    add_seeds(parser, [0, 1, 2], "of folds and models")
    add("--folds", type=whole(2, 100), default=FOLDS, help="by row (default: %(default)s)")
    add("--epochs", type=whole(1), default=Settings().epochs, help="of each NAM (default: the estimator's)")
    add("--all", action="store_true", help="the EBM with interactions too, its default, which takes minutes a model")
    add_files(parser, "tabular", "folds")
    options = parser.parse_args(arguments)
    options.out = options.out or named("tabular", {"folds": FOLDS}, {"folds": options.folds})
    return options
