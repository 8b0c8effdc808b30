"""The command line: blocks of time that are held out, the same for every method; scores, answers and a picture."""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import joblib
import numpy as np
import pandas
import torch

from examples import ebm, report
from examples.finished import Finished
from examples.options import add_files, add_seeds, prepare, whole
from examples.pieces import complete
from examples.river import answers, picture, rivals
from examples.river.data import Block, as_panel, blocks, forecast, load, rows
from examples.river.methods import Mean, Settings
from examples.river.scores import AHEAD, HEADINGS, scores
from examples.runtime import named, resumable, run, versions, write_results

BLOCKS = 5
RNAM, MEMORYLESS = "RNAM", "RNAM without memory"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; the exit status: 0, or 1 after a message, or 130 after Ctrl-C."""
    options = _options(arguments)
    return run(lambda: _run(options), torch.device("cpu"))


def _run(options: argparse.Namespace) -> None:
    days, settings = load(), Settings(epochs=tuple(options.epochs))
    panel = as_panel(days)
    cut, ahead = blocks(panel, options.blocks), [forecast(panel)] if options.all else []
    methods = [RNAM, MEMORYLESS, *rivals.FEW, *(rivals.MORE if options.all else ())]
    if options.all and not ebm.version():
        print(ebm.left_out([rivals.EBM]), flush=True)
        methods.remove(rivals.EBM)
    packages = {**versions(), "spotpy": importlib.metadata.version("spotpy")}
    about = {**asdict(settings), "blocks": options.blocks, "data": joblib.hash(days.to_numpy()), **packages}
    prepare(options.out, options.json)
    finished = Finished(options.out / "finished.json", about)
    print(
        "Daily flow of the Fulda from rain, temperature and its daily range of that day and the days before: weather "
        f"alone.\n{len(cut)} blocks of time are held out in turn, with 30 days around each.\n",
        flush=True,
    )  # fmt: skip
    with resumable(finished.path):
        pieces = {
            _key(seed, block, m): (_predicted, (m, days, block, seed, settings, _folder(options, seed, block)))
            for seed in options.seeds for block in [*cut, *ahead] for m in methods
        }  # fmt: skip
        complete(finished, pieces, options.jobs)
        found, later = (
            {m: [_scores(days, some, finished, seed, m) for seed in options.seeds] for m in methods if some}
            for some in (cut, ahead)
        )
        print("\nDays of blocks that no part of the model saw:\n")
        print(report.table(found, options.seeds, HEADINGS))
        if later:
            print(f"\n1986 to 1988, from the years before:\n\n{report.table(later, options.seeds, AHEAD)}")
        seed = options.seeds[0]
        told = answers.tell(
            days, panel, cut,
            {m: [np.array(finished.done[_key(seed, block, m)]["result"]) for block in cut] for m in methods},
            [Mean.load(_folder(options, seed, block)) for block in cut], RNAM,
        )  # fmt: skip
        picture.draw(told).savefig(options.out / "river.png")
    print("\nRise of log flow for 20 mm, May to October, after 30 dry or wet days, measured and as each predicts:\n")
    print(told.check.frame().to_string(index=False, float_format="%.2f"))
    print(f"\nPicture      {options.out / 'river.png'}  (seed {seed})\nModels       {options.out / 'models'}")
    content = {
        "settings": about, "seeds": options.seeds, "scores": report.as_json(found, options.seeds),
        "forecast": report.as_json(later, options.seeds), **told.as_json(),
    }  # fmt: skip
    write_results(options.json, content)


def _predicted(
    method: str, days: pandas.DataFrame, block: Block, seed: int, settings: Settings, folder: Path
) -> list[float]:
    """Of the days of a block. The RNAM is saved."""
    if method in (RNAM, MEMORYLESS):
        model = Mean.fit(block, seed, settings, memory=method == RNAM)
        if method == RNAM:
            model.save(folder)
        return model.predict(block.test)[rows(block.test)].tolist()
    return {**rivals.FEW, **rivals.MORE}[method](days, block, seed).tolist()


def _key(seed: int, block: Block, method: str) -> str:
    return f"seed {seed}, {block.name}, {method}"


def _folder(options: argparse.Namespace, seed: int, block: Block) -> Path:
    folder: Path = options.out / "models" / f"seed {seed}, {block.name}"
    return folder


def _scores(days: pandas.DataFrame, cut: list[Block], finished: Finished, seed: int, method: str) -> dict[str, float]:
    done = [finished.done[_key(seed, block, method)] for block in cut]
    flow = [days["log_flow"].to_numpy()[rows(block.test)] for block in cut]
    return scores(flow, [np.array(piece["result"]) for piece in done], sum(piece["cpu"] for piece in done))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, `out` filled in."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.river",
        description="Predict ten years of a river's flow from weather alone, score the recurrent neural additive model "
        "beside others, and draw what it says. Interrupted, the same command goes on.",
    )
    add, epochs = parser.add_argument, Settings().epochs
    add_seeds(parser, [0], "of the models")
    add("--blocks", type=whole(3, 10), default=BLOCKS, help="of time, held out in turn (default: %(default)s)")
    add(
        "--epochs",
        type=whole(1),
        nargs="+",
        default=list(epochs),
        help="of an RNAM, of which one is chosen (default: 15 30)",
    )
    add("--all", action="store_true", help="an EBM and a GRU, too, and 1986 to 1988 from the years before")
    add("--jobs", type=whole(1, 64), default=2, help="processes (default: %(default)s)")
    add_files(parser, "river", "blocks and epochs")
    options = parser.parse_args(arguments)
    usual = {"blocks": BLOCKS, "epochs": list(epochs)}
    options.out = options.out or named("river", usual, {"blocks": options.blocks, "epochs": options.epochs})
    return options
