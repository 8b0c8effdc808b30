"""The simulated outcome: at each visit it comes or not, with log-odds that are a known sum.

    log-odds = c + f_hdl(average of hdl) + f_sbp(fast - slow average of sbp) + f_age(age)

    average    m_k = a_k m_{k-1} + (1 - a_k) x_k over the measurements x_1, x_2, ... so far, m_1 = x_1,
               a_k = exp(-years since the measurement before / memory)
    f_hdl      -1.2 tanh((m - 50) / 20), memory 5 years, mg/dl; 0 while hdl was never measured
    f_sbp      1.2 tanh(d / 12), d = average of memory 1/2 year - average of memory 5 years, mmHg;
               1.0 while sbp was never measured
    f_age      0.7 (age - 55) / 15

FIB-4, smoking, sex and body mass index are idle: they have no share, though they go along with age and hdl, which
do. An outcome is drawn at every visit, independent of the others given the log-odds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from examples.plasmode.data import FACTS, FEATURES, LABS, Bools, Cohort
from examples.sequences import Floats, carried_forward

MEMORY = 5.0  # years
FAST = 0.5  # years
NEVER = {"sbp": 1.0}  # log-odds of a term that was never measured; of the others 0
CONSTANT = -1.5


def _hdl(level: Floats) -> Floats:
    return -1.2 * np.tanh((level - 50) / 20)


def _sbp(change: Floats) -> Floats:
    return 1.2 * np.tanh(change / 12)


def _age(age: Floats) -> Floats:
    return 0.7 * (age - 55) / 15


FUNCTION = {"hdl": _hdl, "sbp": _sbp, "age": _age}  # of the arguments of `Truth`

TERM = {feature.column: number for number, feature in enumerate(FEATURES)}
IDLE = tuple(feature.column for feature in FEATURES if feature.column not in FUNCTION)


@dataclass(frozen=True)
class Truth:
    """What each term adds, and where it is observed.

    contributions (terms, people, seq)  to the log-odds; 0 for idle terms; at padding as at the last visit
    observed      (terms, people, seq)  True from the first measurement on
    arguments     (people, seq) each    of hdl, sbp and age: average, difference of averages and age, in their units;
                                        NaN where not observed
    """

    contributions: Floats
    observed: Bools
    arguments: dict[str, Floats]

    def log_odds(self) -> Floats:
        """(people, seq)"""
        return CONSTANT + self.contributions.sum(0)


def average(values: Floats, gaps: Floats, memory: float) -> Floats:
    """The averages of `values` (people, seq) that forget with `memory` (years), held where nothing is measured, NaN
    before the first measurement. gaps: years since the measurement before."""
    result = np.full(values.shape, np.nan)
    mean = np.full(len(values), np.nan)
    for step in range(values.shape[1]):
        x, keep = values[:, step], np.exp(-gaps[:, step] / memory)
        new = np.where(np.isfinite(mean), keep * mean + (1 - keep) * x, x)
        mean = np.where(np.isfinite(x), new, mean)
        result[:, step] = mean
    return result


def truth(people: Cohort) -> Truth:
    """The true contributions. A person of unknown age has that term's 0."""
    contributions = np.zeros((len(FEATURES), *people.day.shape))
    observed = np.empty(contributions.shape, bool)
    observed[: len(LABS)] = np.isfinite(carried_forward(people.values))
    observed[len(LABS) :] = np.isfinite(people.facts.T)[..., None]
    gaps = people.gaps()
    hdl, sbp = TERM["hdl"], TERM["sbp"]
    fast, slow = (average(people.values[sbp], gaps[sbp], memory) for memory in (FAST, MEMORY))
    age = np.broadcast_to(people.facts[:, [column.column for column in FACTS].index("age")][:, None], people.day.shape)
    arguments = {"hdl": average(people.values[hdl], gaps[hdl], MEMORY), "sbp": fast - slow, "age": age}
    for name, argument in arguments.items():
        contributions[TERM[name]] = np.where(np.isfinite(argument), FUNCTION[name](argument), NEVER.get(name, 0.0))
    return Truth(contributions, observed, arguments)


def draw(log_odds: Floats, seed: int) -> Bools:
    """Outcomes, drawn at each place."""
    return np.random.default_rng(seed).random(log_odds.shape) < 1 / (1 + np.exp(-log_odds))
