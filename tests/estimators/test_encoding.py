"""What a model reads of a panel."""

from __future__ import annotations

import json

import numpy as np
import pandas
import pytest

import rnam
from rnam.estimators.encoding import Encoder
from rnam.estimators.gaps import Gaps
from tests.estimators.support import panel, visits
from tests.support.assertions import assert_equal, assert_within


def of_numbers(values: np.ndarray) -> rnam.Panel:
    return rnam.Panel.from_array(values[:, None, None])


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 1e6), (1e-6, 0.0), (1e6, -1e9), (1e-6, 1.0)])
def test_units_change_nothing(scale: float, offset: float) -> None:
    plain = np.random.default_rng(0).normal(size=101)
    moved = plain * scale + offset
    found = [Encoder.fit(of_numbers(x)).transform(of_numbers(x)).values for x in (plain, moved)]
    # the sum is rounded to half a unit of the offset, as are the centre and the quartiles: four roundings, in scales
    spread = 4 * np.spacing(abs(offset) + 4 * scale) / (scale * np.subtract(*np.quantile(plain, [0.75, 0.25])) / 1.349)
    # float32 rounds numbers of up to 3 to 2^-23; a shift of the scale moves a number of up to 3 by 3 times as much
    assert_within("values", found[1].astype(np.float64), found[0].astype(np.float64), 4 * spread + 2**-22)


def test_tails_end_at_three_and_constants_stay_finite() -> None:
    values = np.r_[np.random.default_rng(0).normal(size=99), 1e300]
    encoded = Encoder.fit(of_numbers(values)).transform(of_numbers(values)).values
    assert_within("the tail", encoded[-1], np.array([3.0]), 2**-22)  # 3 to a rounding of float32
    constant = Encoder.fit(of_numbers(np.full(5, 7.0)))
    assert_equal("values", constant.transform(of_numbers(np.array([7.0]))).values, np.zeros((1, 1), np.float32))
    assert np.isfinite(constant.transform(of_numbers(np.array([1e308]))).values).all()


def test_a_rare_number_keeps_its_size() -> None:
    values = np.r_[np.zeros(95), np.ones(5)]
    encoded = Encoder.fit(of_numbers(values)).transform(of_numbers(values)).values
    assert_within("values", encoded[-1].astype(np.float64), np.array([1 / np.sqrt(1 + 1 / 9)]), 1e-6)


def test_scales_and_levels_are_those_of_the_training_ids() -> None:
    whole = panel()
    train = whole.take(np.arange(10))
    encoder = Encoder.fit(train)
    values = train.values[:, 1]
    assert encoder.features[1].centre == np.median(values)
    known = encoder.features[2].levels
    rare = rnam.Panel.from_frame(
        visits().assign(kind="w"), id="person", time="day", values=["x", "z"], categories=["kind"], static=["age"]
    )
    assert "w" not in known
    kind = list(encoder.terms[2].columns)
    inputs = encoder.transform(rare)
    assert not inputs.mask[:, kind].any()
    assert not inputs.values[:, kind].any()


def test_levels_are_found_by_name_and_not_by_number() -> None:
    encoder = Encoder.fit(panel())
    roles = dict(id="person", time="day", values=["x", "z"], categories=["kind"], static=["age"])
    turned = rnam.Panel.from_frame(visits(), **roles, levels={"kind": ["w", "v", "u"]})
    assert_equal("values", encoder.transform(turned).values, encoder.transform(panel()).values)


def test_gaps_are_masked_and_hold_zero() -> None:
    whole = panel()
    inputs = Encoder.fit(whole).transform(whole)
    assert_equal("mask", inputs.mask[:, 0], ~np.isnan(whole.values[:, 0]))
    assert not inputs.values[~inputs.mask].any()
    assert inputs.values.dtype == np.float32


def test_a_pair_reads_the_columns_of_both_and_static_ones_stand_at_visits() -> None:
    whole = panel(memoryless=["z"])
    encoder = Encoder.fit(whole, pairs=[("x", "age"), ("kind", "z")])
    terms = {term.name: term for term in encoder.terms}
    assert [term.kind for term in encoder.terms] == ["recurrent"] * 4 + ["memoryless", "static"]
    pair, inputs = terms["x & age"], encoder.transform(whole)
    assert pair.is_pair
    assert pair.columns[0] == terms["x"].columns[0]
    age = inputs.static[:, terms["age"].columns[0]]
    assert_equal("values", inputs.values[:, pair.columns[1]], np.repeat(age, whole.lengths))
    assert terms["kind & z"].columns == terms["kind"].columns + terms["z"].columns


def test_cyclic_columns_go_round() -> None:
    df = pandas.DataFrame({"id": range(3), "day": 0, "hour": [0.0, 6.0, 24.0]})
    whole = rnam.Panel.from_frame(df, id="id", time="day", cyclic={"hour": 24})
    expected = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert_within("values", Encoder.fit(whole).transform(whole).values.astype(np.float64), expected, 2**-24)


def test_json_holds_an_encoder() -> None:
    encoder = Encoder.fit(panel(), pairs=[("x", "kind")], timing=True)
    assert Encoder.from_dict(json.loads(json.dumps(encoder.to_dict()))) == encoder


def test_a_batch_is_padded_and_has_the_masks_that_it_needs() -> None:
    whole = panel()
    inputs = Encoder.fit(whole, timed=True).transform(whole)
    positions = np.array([7, 2])
    batch = inputs.batch(positions)
    for row, position in enumerate(positions):
        start, end = inputs.offsets[position : position + 2]
        assert_equal("input", batch["input"][row, : end - start].numpy(), inputs.values[start:end])
        assert_equal("times", batch["times"][row, : end - start].numpy(), whole.times[start:end])
    assert "static_mask" not in batch
    single = inputs.batch([2])
    assert "lengths" not in single


@pytest.mark.parametrize(
    ("pairs", "word"),
    [(["xz"], "pairs of names"), ([("x", "y")], "'y'"), ([("x", "x")], "twice"), ([("x", "z"), ("z", "x")], "once")],
)
def test_bad_pairs_are_refused(pairs: list[object], word: str) -> None:
    with pytest.raises((TypeError, ValueError), match=word):
        Encoder.fit(panel(), pairs=pairs)  # type: ignore[arg-type]


def test_other_columns_are_refused_by_name() -> None:
    encoder = Encoder.fit(panel(), timed=True)
    for changes, word in (
        (dict(values=["x"]), "column 'z'"),
        (dict(values=["x", "z", "label"], target=None), "'label'"),
        (dict(values=["x"], static=["age"], categories=["kind", "z"]), "'z' must be in values"),
        (dict(time_unit="year"), "unit"),
    ):
        with pytest.raises(ValueError, match=word):
            encoder.transform(panel(**changes))
    with pytest.raises(ValueError, match="a NAM reads columns of ids alone"):
        Encoder.fit(panel(memoryless=["x", "z", "kind"]))


def test_gaps_choose_the_time_scales() -> None:
    X = np.zeros((4, 9, 1))
    daily = Gaps.of(rnam.Panel.from_array(X, 7.0 * np.arange(9)))
    assert (daily.unit, daily.regular, daily.timescales(False)) == (7.0, True, (1.0, 4.5))
    odd = Gaps.of(rnam.Panel.from_array(X, np.cumsum([0, 1, 2, 3, 2, 2, 9, 2, 1])))
    assert (odd.unit, odd.regular, odd.timescales(True)) == (2.0, False, (1.0, 5.5))
    assert Gaps.of(rnam.Panel.from_array(X[:, :1])).timescales(False) is None
