"""What the models of a seed say about people they were not trained on, beside the truth.

The reference for centring is the test people's visits, for the truth and for each member of the ensemble.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from examples.plasmode import baselines
from examples.plasmode.data import Bools
from examples.plasmode.training import KINDS, Task, read
from examples.plasmode.truth import FUNCTION, IDLE, TERM
from examples.sequences import Floats
from rnam import explain

QUANTILE = 1.645  # standard deviations to either side hold 90% of a normal distribution
NOMINAL = 0.90
MISSING = "sbp never measured"
ASKED = {"recurrence": 0.008, "hdl": 0.90, "sbp": 0.60, "missing": 0.25, "idle": 0.02}


@dataclass(frozen=True)
class Recovery:
    """Centred contributions to the log-odds of the test people, by the full model.

    mean, sd, truth (people, terms, seq)  over members, and what is true
    observed        (people, terms, seq)
    odds            (people, seq)         the prediction, mean of the members
    """

    mean: Floats
    sd: Floats
    truth: Floats
    observed: Bools
    odds: Floats


@dataclass(frozen=True)
class Result:
    """One seed's scores, over all visits of the test people.

    auc, brier_skill, slope  by model; "truth" are those of the true probabilities, which no model can pass by much
    correlations  of the contribution with the truth, where the term is observed
    missing       true and estimated contribution (log-odds, centred) where sbp was never measured
    idle          variance of each idle term's contribution over that of the true log-odds
    coverage      share of visits whose true contribution is within the refit spread's 90% interval, by term;
                  that of "sbp never measured" is 1 or 0, since it is one number
    visits        of the training and the test people; of the latter those at which sbp was never measured
    """

    seed: int
    visits: dict[str, int]
    auc: dict[str, float]
    brier_skill: dict[str, float]
    slope: dict[str, float]
    correlations: dict[str, float]
    missing: dict[str, float]
    idle: dict[str, float]
    coverage: dict[str, float]

    @property
    def recurrence(self) -> float:
        """What the sequence gained over the last values: difference of the AUC."""
        return self.auc["full"] - self.auc["last"]

    @property
    def missing_error(self) -> float:
        return abs(self.missing["estimate"] - self.missing["truth"])

    def met(self) -> dict[str, bool]:
        """Whether each of the numbers of `ASKED` is reached."""
        return {
            "recurrence": self.recurrence >= ASKED["recurrence"],
            "hdl": self.correlations["hdl"] >= ASKED["hdl"],
            "sbp": self.correlations["sbp"] >= ASKED["sbp"],
            "missing": self.missing_error <= ASKED["missing"],
            "idle": max(self.idle.values()) <= ASKED["idle"],
        }

    def report(self) -> dict[str, Any]:
        """What --json writes."""
        derived = {"recurrence": self.recurrence, "missing_error": self.missing_error, "met": self.met()}
        return asdict(self) | derived


def recover(task: Task, state: dict[str, Tensor], device: torch.device) -> Recovery:
    """Run the finished full model over the test people."""
    parts, bias = read(task.settings, state, task.scaler.sequences(task.test), device)
    visits, true = task.test.is_visit().astype(float), task.truth_test
    observed = np.moveaxis(true.observed, 0, 1)
    centring = explain.Centering.fit(parts, visits, observed, members=True)
    spread = explain.spread(parts, centring)
    odds = spread.mean.sum(1)[..., 0] + centring.intercept(bias).mean()
    return Recovery(spread.mean[..., 0], spread.sd[..., 0], centred_truth(task), observed, odds)


def centred_truth(task: Task) -> Floats:
    """(people, terms, seq)"""
    true = np.moveaxis(task.truth_test.contributions, 0, 1)[..., None]
    observed = np.moveaxis(task.truth_test.observed, 0, 1)
    centring = explain.Centering.fit(true, task.test.is_visit().astype(float), observed)
    return centring(true)[..., 0]


def evaluate(task: Task, finished: list[dict[str, Tensor]], device: torch.device) -> tuple[Result, Recovery]:
    """Every score of a seed; `finished` are the models of `KINDS`."""
    recovery = recover(task, finished[KINDS.index("full")], device)
    probability = probabilities(task, recovery, finished[KINDS.index("last")], device)
    visits, positive = task.test.is_visit(), task.positive_test[task.test.is_visit()]
    never = visits & ~recovery.observed[:, TERM["sbp"]]
    result = Result(
        seed=task.settings.seed,
        visits={"train": int(task.train.length.sum()), "test": int(visits.sum()), "never": int(never.sum())},
        auc={name: float(roc_auc_score(positive, p)) for name, p in probability.items()},
        brier_skill={name: explain.brier_skill(p, positive) for name, p in probability.items()},
        slope={name: explain.calibration_slope(np.log(p / (1 - p)), positive) for name, p in probability.items()},
        correlations={name: correlation(recovery, visits, TERM[name]) for name in FUNCTION},
        missing={
            "truth": float(recovery.truth[:, TERM["sbp"]][never].mean()),
            "estimate": float(recovery.mean[:, TERM["sbp"]][never].mean()),
        },
        idle={name: idle_share(recovery, visits, TERM[name], task) for name in IDLE},
        coverage=coverage(recovery, visits, never),
    )
    return result, recovery


def probabilities(task: Task, recovery: Recovery, last: dict[str, Tensor], device: torch.device) -> dict[str, Floats]:
    """(visits,) of the outcome at each visit of the test people, by model."""
    visits = task.test.is_visit()
    parts, bias = read(task.settings, last, task.scaler.last_values(task.test), device, rows=20_000)
    odds = {
        "truth": task.truth_test.log_odds()[visits],
        "full": recovery.odds[visits],
        "last": parts.sum((2, 3, 4)).mean(0) + bias.mean(),
    }
    return {name: 1 / (1 + np.exp(-value)) for name, value in odds.items()} | baselines.predict(task)


def correlation(recovery: Recovery, visits: Bools, term: int) -> float:
    """Of the contribution with the truth, over the visits at which the term is observed."""
    places = visits & recovery.observed[:, term]
    return float(np.corrcoef(recovery.mean[:, term][places], recovery.truth[:, term][places])[0, 1])


def idle_share(recovery: Recovery, visits: Bools, term: int, task: Task) -> float:
    """The variance of a term that has no share, over that of the true log-odds."""
    return float(recovery.mean[:, term][visits].var() / task.truth_test.log_odds()[visits].var())


def coverage(recovery: Recovery, visits: Bools, never: Bools) -> dict[str, float]:
    """By term, the share of the visits at which it is observed whose truth is within mean +- 1.645 sd; and of those
    at which sbp was never measured, at all of which mean, sd and truth are the same."""
    inside = np.abs(recovery.mean - recovery.truth) <= QUANTILE * recovery.sd
    shares = {name: float(inside[:, term][visits & recovery.observed[:, term]].mean()) for name, term in TERM.items()}
    return shares | {MISSING: float(inside[:, TERM["sbp"]][never].mean())}
