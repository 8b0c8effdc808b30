"""The command line: the same folds for every method, their scores, and what is asked of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace
from typing import Any

import pandas
from tqdm import tqdm

from examples import ebm, report
from examples.finished import Finished
from examples.options import add_device, add_files, add_seeds, prepare, whole
from examples.pbcseq.compare import picture
from examples.pbcseq.compare.methods import BASELINES, LAST, baseline, single_model, single_visits
from examples.pbcseq.data import Floats, Fold, folds, load
from examples.pbcseq.evaluation import out_of_fold, scores
from examples.pbcseq.models import Settings, trained
from examples.runtime import folder, provenance, resumable, run, write_results

RNAM, SINGLE = "RNAM", "RNAM, T = 1, last values"
HEADS = {
    "auc": "AUC",
    "brier_skill": "Brier skill",
    "calibration_slope": "calibration slope",
    "observed_expected": "observed / expected",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; the exit status: 0, or 1 after a message, or 130 after Ctrl-C."""
    options = _options(arguments)
    return run(lambda: _run(options), options.device)


def _run(options: argparse.Namespace) -> None:
    base = _settings(options)
    frame = load()
    left_out = [] if ebm.version() else [name for name in BASELINES if name.startswith("EBM")]
    if left_out:
        print(ebm.left_out(left_out), flush=True)
    names = [RNAM, SINGLE, *(name for name in BASELINES if name not in left_out)]
    try:
        made = {seed: folds(frame, base.folds, seed) for seed in options.seeds}
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    prepare(options.out, options.json)
    arrays = SimpleNamespace(**{str(name): frame[name].to_numpy() for name in frame})
    settings = provenance(base, arrays, options.device)
    del settings["seed"]
    finished = Finished(options.out / "finished.json", settings)
    with resumable(finished.path):
        for seed in options.seeds:
            _compare(frame, made[seed], replace(base, seed=seed), options, names, finished)
        found = {name: [finished.done[_key(seed, name)] for seed in options.seeds] for name in names}
        _report(options, found, left_out, settings | {ebm.DISTRIBUTION: ebm.version()})


def _key(seed: int, name: str) -> str:
    """The name of a piece of work: with another version of interpret an EBM is another."""
    return f"seed {seed}: {name}" + (f", {ebm.DISTRIBUTION} {ebm.version()}" if name.startswith("EBM") else "")


def _compare(
    frame: pandas.DataFrame, made: list[Fold], settings: Settings, options: argparse.Namespace, names: Sequence[str],
    finished: Finished,
) -> None:  # fmt: skip
    """Add to `finished` the scores of one seed that are not there."""
    seed = settings.seed
    missing = [name for name in names if _key(seed, name) not in finished.done]
    baselines = [name for name in missing if name in BASELINES]

    def add(name: str, probability: Floats) -> None:
        finished.add(_key(seed, name), scores(frame, made, probability))

    if RNAM in missing:
        models = trained(made, settings.model(options.device), finished, f"seed{seed}-rnam-fold")
        add(RNAM, out_of_fold(made, models).probability)
    if SINGLE in missing:
        alone, model = single_visits(frame, made), single_model(frame, settings, options.device)
        add(SINGLE, out_of_fold(alone, trained(alone, model, finished, f"seed{seed}-single-fold")).probability)
    if not baselines:
        return
    with tqdm(total=len(baselines) * len(made), desc=f"seed {seed}: baselines", unit="fold", dynamic_ncols=True) as bar:
        for name in baselines:
            bar.set_postfix_str(name)
            add(name, baseline(name, frame, made, seed, bar.update))


@dataclass(frozen=True)
class Asked:
    """Something asked of RNAM's means, what was found, and whether it is so."""

    what: str
    found: float
    met: bool


def asked(mean: dict[str, dict[str, float]]) -> list[Asked]:
    """All that is asked."""
    own, best = mean[RNAM], max(mean, key=lambda name: mean[name]["auc"])
    behind = mean[best]["auc"] - own["auc"]
    slope, ratio, simple = own["calibration_slope"], own["observed_expected"], mean[LAST]["auc"]
    return [
        Asked("AUC at least 0.895", own["auc"], own["auc"] >= 0.895),
        Asked(f"AUC at least that of {LAST}, {simple:.3f}", own["auc"], own["auc"] >= simple),
        Asked(f"AUC at most 0.01 behind the best ({best}): behind by", behind, behind <= 0.01),
        Asked("calibration slope 0.85 to 1.15", slope, 0.85 <= slope <= 1.15),
        Asked("observed / expected 0.9 to 1.1", ratio, 0.9 <= ratio <= 1.1),
    ]


def text(found: report.Found, seeds: Sequence[int]) -> str:
    """A line for each method, then what is asked, and what the memory brought."""
    mean = report.means(found)
    wanted = [f"{'yes' if a.met else 'NO ':3}  {a.what}: {a.found:.3f}" for a in asked(mean)]
    gain = mean[RNAM]["auc"] - mean[SINGLE]["auc"]
    each = ", ".join(f"{a['auc'] - b['auc']:+.3f}" for a, b in zip(found[RNAM], found[SINGLE], strict=True))
    memory = f"What the memory changed, against the same model on last values: AUC {gain:+.3f} (by seed {each})."
    return "\n".join([report.table(found, seeds, HEADS), "", "Asked of RNAM:", *wanted, "", memory])


def _report(options: argparse.Namespace, found: report.Found, left_out: list[str], settings: dict[str, Any]) -> None:
    """The table on the screen, the picture, and the file that --json names."""
    print(f"\nPeople not trained on, {options.folds} folds pooled, seeds {', '.join(map(str, options.seeds))}:\n")
    print(text(found, options.seeds))
    drawing = options.out / "comparison.png"
    picture.draw(found).savefig(drawing)
    print(f"\nPicture      {drawing}")
    content = {
        "settings": settings,
        "seeds": options.seeds,
        "left_out": left_out,
        "scores": report.as_json(found, options.seeds),
        "asked": [asdict(a) for a in asked(report.means(found))],
    }
    write_results(options.json, content)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, `out` filled in."""
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m examples.pbcseq.compare",
        description="Score the demo's model beside plain baselines and beside itself without a memory, on the same "
        "folds of 312 liver patients. Interrupted, the same command goes on.",
    )
    add = parser.add_argument
    add_device(parser)
    add_seeds(parser, [0, 1, 2], "of folds and models")
    add("--folds", type=whole(2), default=default.folds, help="by person (default: %(default)s)")
    add("--epochs", type=whole(1), default=default.epochs, help="of each RNAM (default: %(default)s)")
    add_files(parser, "pbcseq-compare", "folds, epochs and device")
    options = parser.parse_args(arguments)
    options.out = options.out or folder("pbcseq-compare", default, _settings(options), options.device)
    return options


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(folds=options.folds, epochs=options.epochs)
