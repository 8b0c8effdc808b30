"""The committed figures of the kernels are those of the code: some here, all with -m slow."""

import json

import pytest
import torch

from rnam.backends import choice

if not choice.triton_installed():
    pytest.skip("the kernels need triton", allow_module_level=True)

import triton

from benchmarks import kernels, static, tune
from benchmarks.kernels import Entry, entries
from benchmarks.protocol.shapes import SHAPES
from rnam.kernels.min_gru.config import TABLE, select_config, table_config
from tools.ptx.sass import Usage

COMMITTED = json.loads(static.FIGURES.read_text())
FIGURES = {(row["kernel"], row["cc"]): row for row in COMMITTED["rows"]}
CHEAP = [
    ("min_gru forward time_rows D=16 H=16 tf32", 90),
    ("min_gru forward batch_rows D=8 H=8 bfloat16", 80),
    ("linear_scan forward H=32 float32", 100),
    ("grouped_linear forward 8x8 relu tf32x3", 90),
]
ALL = [(entry.name, cc) for entry in entries() for cc in static.DEVICES]

of_this_compiler = pytest.mark.skipif(
    triton.__version__ != COMMITTED["triton"], reason=f"the figures are those of triton {COMMITTED['triton']}"
)


def _compile_again(name: str, cc: int) -> None:
    (entry,) = (e for e in entries() if e.name == name)
    assert static.figures(entry, cc) == FIGURES[name, cc]


@pytest.mark.compiled
@of_this_compiler
@pytest.mark.parametrize(("name", "cc"), CHEAP)
def test_committed_figures(name: str, cc: int) -> None:
    _compile_again(name, cc)


@pytest.mark.slow
@pytest.mark.compiled
@of_this_compiler
@pytest.mark.parametrize(("name", "cc"), ALL)
def test_all_committed_figures(name: str, cc: int) -> None:
    _compile_again(name, cc)


def test_every_configuration_of_the_table_is_there() -> None:
    assert sorted(ALL) == sorted(FIGURES)
    for pass_, batch_rows, width, _ in TABLE:
        row = f"min_gru {pass_} {kernels.form_name(batch_rows)} D={width} "
        assert [name for name, _ in ALL if row in name], row
    assert COMMITTED["limits"] == static.limits(COMMITTED["rows"])


def _entry(**changes) -> Entry:
    values = dict(name="kernel", build=None, lanes=8.0, moved=8.0, ideal=8.0, mufu=4, wide=True)
    return Entry(**values | changes)


def _usage(**changes) -> Usage:
    values = dict(
        registers=64, spills=0, loop_spills=0, stack=0, shared=0, mufu=32, loads=("LDG.E.128",), mix=(), wavefronts=10
    )
    values["mix"] = (("FFMA", 100), ("HMMA", 4), ("MUFU", 32), ("NOP", 50))
    return Usage(**values | changes)


def test_the_bound_is_the_busiest_part() -> None:
    row = static._row(_entry(), 90, _usage())
    assert (row["instructions"], row["bound_by"], row["bound"]) == (136, "mufu", 32.0)
    assert row["budget"] == pytest.approx(8 * 132 * 4 * 32 * 1.755e9 / 3.0e12, abs=0.05)
    assert row["copy_limit"] == 1.0 and row["flags"] == []
    assert static._row(_entry(), 90, _usage(wavefronts=300))["bound_by"] == "memory"


def test_what_is_flagged() -> None:
    flags = lambda entry, used: static._row(entry, 90, used)["flags"]
    assert flags(_entry(), _usage(mufu=64)) == ["duplicated work"]
    assert flags(_entry(), _usage(loads=("LDG.E", "LDG.E.128"))) == ["scalar loads"]
    assert flags(_entry(wide=False), _usage(loads=("LDG.E",))) == []
    assert flags(_entry(), _usage(spills=3)) == ["spills"]
    assert flags(_entry(moved=4.0, ideal=4.0), _usage(wavefronts=100)) == ["over budget"]
    assert flags(_entry(), _usage(mix=(("HGMMA", 2),))) == ["products not weighed"]


def test_loads_are_counted_by_width() -> None:
    loads = ("LDG.E.128", "LDG.E", "LDG.E.64.CONSTANT", "LDGSTS.E.BYPASS.128", "LDG.E.U8", "LDG.E.U16")
    assert static._widths(loads) == {"128": 2, "16": 1, "32": 1, "64": 1, "8": 1}


def test_padding_lowers_the_limit_of_a_shape() -> None:
    row = {"copy_limit": 0.5, "bound": 160.0, "budget": 80.0}
    assert static._limit(row, 90, 1.0) == pytest.approx(0.5)
    assert static._limit(row, 90, 2.0) == pytest.approx(0.25)
    limits = {(r["shape"], r["dtype"], r["pass"], r["cc"]): r for r in COMMITTED["limits"]}
    assert (
        limits["big", "tf32", "forward", 90] | {"kernel": None, "copy_limit": 0.333}
        == limits["big", "tf32", "forward", 90]
    )
    assert not [key for key, row in limits.items() if row["copy_limit"] is None]
    form = "batch_rows" if select_config(16, 16, torch.float32, 37, 512, 48, "forward").batch_rows else "time_rows"
    assert limits["p12", "tf32", "forward", 90]["kernel"] == f"min_gru forward {form} D=16 H=16 tf32"


def test_tuning_tries_the_table_first_and_nothing_twice() -> None:
    for key in tune.keys([]):
        found = list(tune.candidates(key))
        assert len(found) == len(set(found)) > 3
        assert found[0] == table_config(
            key.pass_, key.batch_rows, key.width, key.width, tune.DTYPES[key.itemsize], "tf32"
        )
    names = [key.name for key in tune.keys(["notebook"])]
    assert "forward time_rows 16 float32" in names and len(names) == len(set(names)) == 6


def test_what_the_named_shapes_select_meets_its_budget() -> None:
    """Of linear-state kernels up to width 32 on sm_90, with tf32 and bfloat16 products: forward bound <= budget and no
    spill, backward bound <= budget (bfloat16: 1.2 times that) and at most 16 spills in the loop.

    A backward's budget is that of rows of four steps, which read h once in four, also where rows are shorter and read
    it more often. eeg-wide is there for the log space: its backward in bfloat16 has a bound of 85 and a budget of 64.
    """
    chosen = set()
    for row in COMMITTED["limits"]:
        shape = SHAPES[row["shape"]]
        if row["cc"] != 90 or row["pass"] == "log" or row["dtype"] == "tf32x3" or shape.name == "eeg-wide":
            continue
        if max(shape.dim, shape.hidden) > 32:
            continue
        chosen.add((row["kernel"], row["pass"], row["dtype"]))
    assert len(chosen) == 16
    ideal = {entry.name: entry.ideal * static.DEVICES[90].cycles_per_byte for entry in entries()}
    for name, pass_, dtype in chosen:
        found = FIGURES[name, 90]
        budget = min(found["budget"], ideal[name] * 13 / 12)
        assert found["bound"] <= budget * (1.2 if (pass_, dtype) == ("backward", "bfloat16") else 1.0), name
        assert found["loop_spills"] <= 16 if pass_ == "backward" else found["spills"] == 0, name


def test_a_configuration_with_another_result_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    (key,) = (key for key in tune.keys([]) if key.name == "forward time_rows 16 float32")
    _, wrong, broken, *_ = tune.candidates(key)

    def forward(call, gates, *, config=None):
        if config == broken:
            raise RuntimeError("out of resources\nand more")
        return call.input * (2.0 if config == wrong else 1.0), None

    monkeypatch.setattr(tune, "recurrence_forward", forward)
    monkeypatch.setattr(tune, "ELEMENTS", 1 << 20)
    monkeypatch.setattr(tune, "_timer", lambda call: lambda: (1e-3, None))
    rows = tune.tune(key, torch.device("cpu"))
    reasons = {row["config"]: row["reason"] for row in rows if "reason" in row}
    assert sorted(reasons.values()) == ["out of resources", "wrong"]
    assert rows[0]["table"] and not [row for row in rows[:-2] if "median_ms" not in row]
    assert "wrong" in tune.text(rows[:1] + rows[-2:])


def test_a_quick_run_compiles_some_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "figures", lambda entry, cc: (entry.name, cc))
    assert static.run(static.QUICK) == [(name, cc) for name, cc in ALL if name in static.QUICK]
    assert len(static.run(static.QUICK)) == 18 and len(static.run()) == len(ALL)


# The backwards that the plan's shapes up to width 32 select; their forwards spill nothing with a tail either.
SELECTED = [(False, 8), (False, 16), (True, 16), (True, 32)]


@pytest.mark.compiled
@of_this_compiler
@pytest.mark.parametrize(
    ("batch_rows", "width", "dtype"),
    [
        pytest.param(batch_rows, width, dtype, marks=() if (width, dtype) == (16, torch.float32) else pytest.mark.slow)
        for batch_rows, width in SELECTED
        for dtype in (torch.float32, torch.bfloat16)
    ],
)
def test_a_tail_leaves_the_loop_as_it_is(
    batch_rows: bool, width: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes that no tile divides: full tiles are peeled, so the loop over them meets its budget with few spills."""
    monkeypatch.setattr(kernels, "BATCH", 15)
    monkeypatch.setattr(kernels, "STEPS", 61)
    precision = kernels.PRECISIONS[dtype][0]
    entry = kernels.min_gru_entry("backward", batch_rows, width, width, dtype, precision)
    row = static.figures(entry, 90)
    assert row["bound"] <= row["budget"] * (1.2 if dtype == torch.bfloat16 else 1.0)
    assert row["loop_spills"] <= 16
    assert row["bound"] <= 1.05 * FIGURES[entry.name, 90]["bound"]
