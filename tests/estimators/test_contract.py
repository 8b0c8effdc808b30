"""scikit-learn's own checks of an estimator, and what it is not held to."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from sklearn.utils.estimator_checks import check_estimator

import rnam

# a check -> why it cannot pass
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": (
        "batches and the held-out part are drawn from rows, and a weight of 2 is one row where two copies are two"
    ),
    "check_methods_subset_invariance": (
        "float32 products of batches of other sizes are summed in another order; the check allows 1e-7"
    ),
}

ESTIMATORS = [
    rnam.NAMClassifier((16,), max_epochs=30, verbose=0, device="cpu"),
    rnam.NAMRegressor((16,), max_epochs=20, verbose=0, device="cpu"),
    rnam.RNAMClassifier(8, max_epochs=30, verbose=0, device="cpu"),
    rnam.RNAMRegressor(4, max_epochs=20, verbose=0, device="cpu"),
]


@pytest.mark.long
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
def test_scikit_learns_checks(estimator: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of checks that are skipped or fail as expected
        found = check_estimator(estimator, expected_failed_checks=EXPECTED, on_fail=None)
    failed = [f"{row['check_name']}: {row['exception']!r}" for row in found if row["status"] == "failed"]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
def test_tags_say_what_is_read(estimator: Any) -> None:
    tags = estimator.__sklearn_tags__()
    assert tags.input_tags.allow_nan
    assert tags.input_tags.string
    assert tags.input_tags.three_d_array
    assert tags.target_tags.multi_output == (tags.estimator_type == "regressor")
