"""The named shapes, and how one is made smaller."""

import dataclasses

import pytest

from benchmarks.protocol import shapes
from benchmarks.protocol.shapes import BY_COMMAND, QUICK, SHAPES, fit

NAMED = {
    "notebook": (8, 128, 1024, 8),
    "mid": (64, 128, 48, 32),
    "p12": (37, 512, 48, 16),
    "mimic-cw": (17, 8, 48, 16),
    "electricity": (321, 32, 168, 16),
    "traffic": (862, 32, 168, 16),
    "eeg-long": (64, 16, 3000, 16),
    "wide": (10000, 512, 1, 16),
    "stream-1": (37, 1, 1, 16),
    "stream-64": (37, 64, 1, 16),
    "long": (1, 1, 1_000_000, 64),
    "big": (1, 64, 4096, 512),
}


def test_the_named_shapes_are_those_of_the_plan() -> None:
    for name, (terms, batch, steps, width) in NAMED.items():
        shape = SHAPES[name]
        assert (shape.terms, shape.batch, shape.steps, shape.dim, shape.hidden) == (terms, batch, steps, width, width)
        assert shape.state == name.startswith("stream")
    gru = SHAPES["gru-13"]
    assert (gru.dim, gru.hidden, gru.steps, gru.batch) == (10, 100, 1000, 64)
    assert SHAPES["nam-ens"].layers == ((1, 64), (64, 64), (64, 32), (32, 1))
    assert {SHAPES[name].steps for name in BY_COMMAND["scan"]} == {128, 1024, 8192, 65536}


@pytest.mark.parametrize("names", [BY_COMMAND, *QUICK.values()])
def test_every_name_that_a_command_uses_is_there(names: dict[str, tuple[str, ...]]) -> None:
    assert names.keys() == BY_COMMAND.keys()
    assert {name for found in names.values() for name in found} <= SHAPES.keys()


def test_a_shape_that_fits_stays_as_it_is() -> None:
    assert fit(SHAPES["p12"], SHAPES["p12"].elements) is SHAPES["p12"]
    assert SHAPES["p12"].note == ""


def test_the_batch_is_halved_first_then_the_terms_then_the_steps() -> None:
    shape = SHAPES["p12"]
    half = fit(shape, shape.elements - 1)
    assert (half.terms, half.batch, half.steps) == (37, 256, 48)
    assert half.note == "scaled down: batch 512 -> 256"
    small = fit(shape, 1 << 40, most=8 * 48 * 16)
    assert (small.terms, small.batch, small.steps) == (1, 8, 48)
    tiny = fit(shape, 100)
    assert (tiny.batch, tiny.terms, tiny.steps) == (8, 1, 1)
    assert tiny.note == "scaled down: terms 37 -> 1, batch 512 -> 8, steps 48 -> 1"
    assert dataclasses.replace(tiny, note="", terms=37, batch=512, steps=48) == shape


def test_the_widest_tensor_counts() -> None:
    assert SHAPES["nam-ens"].elements == 600 * 1024 * 64
    assert SHAPES["gru-13"].elements == 64 * 1000 * 100
    assert shapes.TENSORS.keys() == {"min_gru", "linear", "linear_scan", "log_scan", "model"}
