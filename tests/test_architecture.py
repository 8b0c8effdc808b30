"""A model tells the arguments from which its class makes another one of the same modules and parameters."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

import rnam

SIZES = st.integers(1, 3)


@st.composite
def columns(draw: Any, least: int, most: int) -> list[list[int]]:
    term = st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True)
    return list(draw(st.lists(term, min_size=least, max_size=most)))


@st.composite
def of_rnam(draw: Any) -> dict[str, Any]:
    terms, gathered = draw(SIZES), draw(st.booleans())
    timing, continuous = draw(st.booleans()), draw(st.booleans())
    return dict(
        terms=terms,
        hidden_dim=draw(SIZES),
        out_dim=draw(SIZES),
        blocks=draw(SIZES),
        in_dim=1 if gathered else draw(SIZES),
        columns=draw(columns(terms, terms)) if gathered else None,
        missing=draw(st.booleans()),
        timing=timing,
        memoryless_columns=draw(st.none() | columns(1, 2)) if gathered else None,
        static_columns=draw(st.none() | columns(1, 2)),
        members=draw(SIZES),
        cell=draw(st.sampled_from(["mingru", "minlstm"])),
        timescales=draw(st.none() | st.just((2, 50.0))),
        continuous=continuous,
        time_unit=draw(st.sampled_from([1, 24.0])) if timing or continuous else 1.0,
    )


@st.composite
def of_nam(draw: Any) -> dict[str, Any]:
    terms = draw(SIZES)
    return dict(
        terms=terms,
        hidden=draw(st.lists(SIZES, min_size=1, max_size=3)),
        out_dim=draw(SIZES),
        activation=draw(st.sampled_from(["relu", "gelu", "silu"])),
        dropout=draw(st.sampled_from([0.0, 0.25])),
        columns=draw(st.none() | columns(terms, terms)),
        missing=draw(st.booleans()),
        members=draw(SIZES),
    )


def check(kind: Any, given: dict[str, Any]) -> None:
    """On "meta", where parameters have shapes and no numbers."""
    model = kind(**given, device="meta", dtype=torch.float64)
    told = model.arguments()
    assert set(told) == set(given)
    plain = {name: value for name, value in given.items() if name not in ("columns", "hidden")}
    assert {name: _tuples(told[name]) for name in plain} == {name: _tuples(value) for name, value in plain.items()}
    again = kind(**told, device="meta", dtype=torch.float64)
    assert again.arguments() == told
    assert repr(again) == repr(model)
    shapes = [{name: (p.shape, p.requires_grad) for name, p in m.named_parameters()} for m in (again, model)]
    assert shapes[0] == shapes[1]


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


@given(of_rnam())
def test_an_rnam_tells_its_arguments(given: dict[str, Any]) -> None:
    check(rnam.RNAM, given)


@given(of_nam())
def test_a_nam_tells_its_arguments(given: dict[str, Any]) -> None:
    check(rnam.NAM, given)


def test_columns_that_were_left_out_of_a_nam_are_told() -> None:
    assert rnam.NAM(2).arguments()["columns"] == ((0,), (1,))
