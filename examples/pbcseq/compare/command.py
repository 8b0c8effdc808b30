"""The command line: the same folds for every method, their scores, and what is asked of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from examples import ebm, report
from examples.finished import Finished
from examples.options import add_device, add_files, add_seeds, prepare, whole
from examples.pbcseq import checkpoint
from examples.pbcseq.compare import picture
from examples.pbcseq.compare.methods import BASELINES, single_visits
from examples.pbcseq.data import Cohort, Floats, load
from examples.pbcseq.demo import SAVE_EVERY
from examples.pbcseq.evaluation import out_of_fold, scores, sigmoid
from examples.pbcseq.training import Fold, Settings, log_odds, make_folds, train
from examples.runtime import folder, provenance, resumable, run, write_results
from examples.training import Progress, watch

RNAM, SINGLE = "RNAM", "RNAM, T = 1, last values"
LAST = "logistic regression, last values"
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
    people = load()
    left_out = [] if ebm.version() else [name for name in BASELINES if name.startswith("EBM")]
    if left_out:
        print(ebm.left_out(left_out), flush=True)
    names = [RNAM, SINGLE, *(name for name in BASELINES if name not in left_out)]
    try:
        made = {seed: make_folds(people, replace(base, seed=seed)) for seed in options.seeds}
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    prepare(options.out, options.json)
    settings = provenance(base, people, options.device)
    del settings["seed"]
    finished = Finished(options.out / "finished.json", settings)
    with resumable(finished.path):
        for seed in options.seeds:
            comparison = Comparison(people, made[seed], replace(base, seed=seed), options.device, options.out)
            _compare(comparison, names, finished)
        found = {name: [finished.done[_key(seed, name)] for seed in options.seeds] for name in names}
        _report(options, found, left_out, settings | {ebm.DISTRIBUTION: ebm.version()})


def _key(seed: int, name: str) -> str:
    """The name of a piece of work: with another version of interpret an EBM is another."""
    return f"seed {seed}: {name}" + (f", {ebm.DISTRIBUTION} {ebm.version()}" if name.startswith("EBM") else "")


@dataclass(frozen=True)
class Comparison:
    """One seed: its folds, and where the models are trained and kept."""

    people: Cohort
    made: list[Fold]
    settings: Settings
    device: torch.device
    out: Path

    def scores(self, probability: Floats) -> dict[str, float]:
        """Of out-of-fold probabilities (people, seq)."""
        weight = np.zeros(probability.shape)
        for fold in self.made:
            weight[fold.test] = fold.weight[fold.test]
        known = weight > 0
        return scores(probability[known], self.made[0].positive[known], weight[known])._asdict()

    def rnam(self) -> Floats:
        """Out-of-fold probabilities of the demo's models."""
        progress = self._trained(self.made, self.settings, "rnam", f"seed {self.settings.seed}: {RNAM}")
        return out_of_fold(self.people, self.made, self.settings, progress, self.device).probability

    def single(self) -> Floats:
        """Out-of-fold probabilities of the same models on single visits."""
        pairs = [single_visits(self.people, fold, self.settings) for fold in self.made]
        alone, settings = [fold for fold, _ in pairs], pairs[0][1]
        progress = self._trained(alone, settings, "single", f"seed {self.settings.seed}: {SINGLE}")
        odds = np.zeros(len(alone[0].positive))
        for number, fold in enumerate(alone):
            models = progress.finished[number * settings.members : (number + 1) * settings.members]
            odds[fold.test] = log_odds(settings, models, fold.inputs, self.device)[0][fold.test, 0]
        probability = np.zeros(self.people.day.shape)
        probability[self.people.is_visit()] = sigmoid(odds)
        return probability

    def baseline(self, name: str, advance: Callable[[], object]) -> Floats:
        """Out-of-fold probabilities of one of BASELINES; `advance` is called after each fold."""
        probability = np.zeros(self.people.day.shape)
        for fold in self.made:
            probability[fold.test] = BASELINES[name](self.people, fold, self.settings.seed)
            advance()
        return probability

    def _trained(self, made: list[Fold], settings: Settings, kind: str, label: str) -> Progress:
        """The models of all folds, from where their checkpoint stands."""
        path = self.out / f"{kind}-seed{settings.seed}.pt"
        decides = provenance(settings, self.people, self.device) | {"model": kind}
        progress = checkpoint.load(path, decides, settings, made)
        watch(
            train(made, settings, progress, self.device),
            lambda now: checkpoint.save(path, decides, now),
            total=settings.folds * settings.members * settings.epochs,
            done=progress.epochs(settings.epochs),
            every=SAVE_EVERY,
            note=lambda now: "",
            label=label,
        )
        return progress


def _compare(comparison: Comparison, names: Sequence[str], finished: Finished) -> None:
    """Add to `finished` the scores of one seed that are not there."""
    seed = comparison.settings.seed
    missing = [name for name in names if _key(seed, name) not in finished.done]
    baselines = [name for name in missing if name in BASELINES]

    def add(name: str, probability: Floats) -> None:
        finished.add(_key(seed, name), comparison.scores(probability))

    if RNAM in missing:
        add(RNAM, comparison.rnam())
    if SINGLE in missing:
        add(SINGLE, comparison.single())
    if not baselines:
        return
    folds = len(baselines) * len(comparison.made)
    with tqdm(total=folds, desc=f"seed {seed}: baselines", unit="fold", dynamic_ncols=True) as bar:
        for name in baselines:
            bar.set_postfix_str(name)
            add(name, comparison.baseline(name, bar.update))


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
