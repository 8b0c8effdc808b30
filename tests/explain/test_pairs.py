"""A pure pair has mean 0 over each row and column, adds up to the table, and is what least squares leave."""

from __future__ import annotations

import numpy as np
import pytest

import rnam
from tests.support.assertions import assert_within


def test_the_mean_of_a_pure_pair_is_zero_and_the_sum_stays() -> None:
    rng = np.random.default_rng(0)
    table, weight = rng.normal(size=(3, 4, 5)), rng.integers(0, 9, (4, 5)).astype(float)
    found = rnam.explain.purify(table, weight)
    # 20 numbers of size 1 and a least squares solution of condition below 1e3
    bound = 1e3 * 20 * 2.0**-52
    assert_within("rows", (weight * found.interaction).sum(2) / weight.sum(), np.zeros((3, 4)), bound)
    assert_within("columns", (weight * found.interaction).sum(1) / weight.sum(), np.zeros((3, 5)), bound)
    assert_within("first", found.first @ weight.sum(1) / weight.sum(), np.zeros(3), bound)
    assert_within("second", found.second @ weight.sum(0) / weight.sum(), np.zeros(3), bound)
    whole = found.constant[:, None, None] + found.first[:, :, None] + found.second[:, None] + found.interaction
    assert_within("sum", whole, table, bound)


def test_it_is_the_weighted_least_squares_fit() -> None:
    rng = np.random.default_rng(1)
    table, weight = rng.normal(size=(3, 4)), rng.uniform(0.5, 2, (3, 4))
    rows, columns = np.divmod(np.arange(12), 4)
    design = np.concatenate([np.eye(3)[rows], np.eye(4)[columns]], axis=1)
    root = np.sqrt(weight.ravel())
    fitted = design @ np.linalg.lstsq(design * root[:, None], table.ravel() * root, rcond=None)[0]
    found = rnam.explain.purify(table, weight)
    assert_within("interaction", found.interaction.ravel(), table.ravel() - fitted, 1e-12)


def test_a_sum_has_no_interaction_and_empty_rows_go_on() -> None:
    first, second = np.array([1.0, -2.0, 4.0]), np.array([0.5, 3.0])
    weight = np.array([[1.0, 3.0], [2.0, 2.0], [0.0, 0.0]])
    found = rnam.explain.purify(first[:, None] + second, weight)
    assert_within("interaction", found.interaction, np.zeros((3, 2)), 1e-13)
    assert_within("of the empty row", found.first[2] - found.first[0], 3.0, 1e-13)
    across = rnam.explain.purify(second[:, None] + first, weight.T)
    assert_within("of the empty column", across.second[2] - across.second[0], 3.0, 1e-13)


@pytest.mark.parametrize(
    ("table", "weight", "message"),
    [
        ([1.0], [1.0], r"table must have shape \(..., rows, columns\)"),
        ([[np.nan]], [[1.0]], "table must be finite"),
        ([[1.0]], [[0.0]], "sample_weight must be greater than 0 somewhere"),
        ([[1.0]], [1.0], r"sample_weight must have shape \(1, 1\)"),
    ],
)
def test_bad_arguments_are_refused(table: object, weight: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rnam.explain.purify(table, weight)  # type: ignore[arg-type]
