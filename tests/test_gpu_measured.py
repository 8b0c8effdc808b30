"""The stages that measure on a GPU, where there is none: in the interpreter, on tiny shapes and with a clock that is
told."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.protocol import anchor, compare, measure
from benchmarks.protocol.anchor import Anchor
from benchmarks.protocol.provider import Unavailable
from benchmarks.reports.run import load
from rnam.backends import choice

if not choice.triton_installed():
    pytest.skip("the kernels need triton", allow_module_level=True)

from tests.gpu import cache, launchers, measured, occupancy
from tests.gpu.predictions import PREDICTED

H200 = SimpleNamespace(
    max_threads_per_multi_processor=2048, regs_per_multiprocessor=65536, shared_memory_per_multiprocessor=233472
)


@pytest.fixture
def _timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A millisecond for everything."""
    told: Callable[..., Any] = lambda *_: ((lambda: (1e-3, 1e-3)), "as told")
    monkeypatch.setattr(measure, "timer", told)
    monkeypatch.setattr(measure, "host_timer", lambda *_: told()[0])
    monkeypatch.setattr(measured.overhead, "host_timer", lambda *_: told()[0])
    monkeypatch.setattr(measured, "DEVICE", torch.device("cpu"))


def of_stage(monkeypatch: pytest.MonkeyPatch, stage: str, **where: Any) -> measured.Unit:
    """The first unit of a stage with these fields, alone in it."""
    unit = next(u for u in measured.UNITS[stage] if all(getattr(u, k) == v for k, v in where.items()))
    monkeypatch.setitem(measured.UNITS, stage, [unit])
    return unit


@pytest.mark.interpreter
@pytest.mark.usefixtures("_timed")
@pytest.mark.parametrize(
    ("stage", "where", "providers"),
    [
        ("backward", {"shape": "notebook", "kind": "tf32"}, {"table", "2 stages", "3 stages"}),
        ("forms", {"shape": "p12"}, {"table", "224 registers"}),
        ("others", {"op": "linear", "kind": "float32"}, {"rnam"}),
        *(
            pytest.param(*case, marks=pytest.mark.long_in_interpreter)
            for case in (
                ("forms", {"shape": "electricity", "kind": "bfloat16"}, {"table", "rows of time", "batch rows"}),
                ("flags", {"shape": "notebook", "kind": "tf32"}, {"rnam", "rnam-masked"}),
                ("long", {"shape": "notebook"}, {"table", "2 steps"}),
            )
        ),
    ],
)
def test_each_stage_compares_and_times(
    stage: str, where: dict[str, str], providers: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each provider is right and timed; the name of a row begins with that of its stage."""
    unit = of_stage(monkeypatch, stage, **where)
    assert measured.main([stage, str(tmp_path / "rows.json")]) == 0
    run = load(tmp_path / "rows.json")
    assert {row.provider for row in run.rows} == providers
    assert {row.pass_ for row in run.rows} == set(unit.passes)
    assert {row.op for row in run.rows} == {stage}
    for row in run.rows:
        assert row.median_ms == 1.0 and row.max_error is not None, (row.provider, row.detail)
        assert row.detail["kernels"] == []  # the interpreter compiles none
        key = (stage, row.shape, row.dtype, row.pass_, row.provider)
        assert row.detail.get("predicted_us") == (list(PREDICTED[key]) if key in PREDICTED else None)


@pytest.mark.interpreter
@pytest.mark.long_in_interpreter
@pytest.mark.usefixtures("_timed")
def test_rows_are_shares_of_the_anchor_that_came_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows.json"
    monkeypatch.setattr(anchor, "take", lambda device, rounds: Anchor(1e-3, "a copy"))
    of_stage(monkeypatch, "flags", shape="notebook", kind="tf32")
    assert measured.main(["anchor", str(file)]) == 0
    assert measured.main(["flags", str(file)]) == 0
    run = load(file)
    assert run.anchor == Anchor(1e-3, "a copy")
    assert [row.copy_fraction for row in run.rows] == pytest.approx([row.gbps / 1e-3 for row in run.rows])
    made = []
    monkeypatch.setattr(compare, "run", lambda *_: made.append(0))
    assert measured.main(["flags", str(file)]) == 0  # it goes on where it ends
    assert not made


@pytest.mark.interpreter
@pytest.mark.usefixtures("_timed")
def test_the_host_is_timed_beside_a_plain_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = measured._host("mimic-cw")
    assert {(row.provider, row.pass_) for row in rows} == {
        ("op", "forward"), ("op", "both"), ("layer", "forward"), ("layer", "both"), ("model", "both"),
        ("plain launch", "forward"),
    }  # fmt: skip
    for row in rows:
        assert row.detail["plain_launches"] == 1
        assert row.detail["note"] == "1.0 plain launches"
    measured._plain_launch()()


@pytest.mark.interpreter
def test_a_wrong_variant_gets_no_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measured, "DEVICE", torch.device("cpu"))
    right = launchers.min_gru
    monkeypatch.setattr(launchers, "min_gru", lambda *arguments, **configs: 1.01 * right(*arguments, **configs))
    unit = measured.Unit("notebook", "float32", ("forward",), (measured.STEPS,))
    monkeypatch.setitem(measured.UNITS, "long", [unit])
    assert measured.main(["long", str(tmp_path / "rows.json")]) == 0
    (row,) = load(tmp_path / "rows.json").rows
    assert row.median_ms is None and row.detail["reason"] == "wrong" and row.max_error > 5e-3


def test_units_have_a_name_each() -> None:
    """Every shape, type and pass has one, and predictions are of rows that there are."""
    for stage in measured.UNITS:
        assert len(measured.units(stage)) == len(measured.UNITS[stage])
    assert measured.units("anchor") == {} and len(measured.units("host")) == len(measured.HOST_SHAPES)
    rows = {
        (stage, unit.shape, unit.kind, pass_, provider.name)
        for stage, units in measured.UNITS.items()
        for unit in units
        for pass_ in unit.passes
        for provider in unit.providers
    }
    assert set(PREDICTED) <= rows
    assert [(least, most) for least, most in PREDICTED.values() if not 0 < least <= most] == []


def test_a_form_that_no_kernel_has_is_named() -> None:
    x, weight = torch.empty(2, 3, 5, 96), torch.empty(2, 96, 192)
    with pytest.raises(ValueError, match="no kernel has a backward of these widths"):
        launchers.config("backward", x, weight)
    job = SimpleNamespace(leaves=(x, weight), incoming=x)
    with pytest.raises(Unavailable, match="no kernel has"):
        measured.variant("2 stages", stages=2).bind(job)


def test_changed_launch_numbers() -> None:
    x, weight = torch.empty(2, 3, 500, 16), torch.empty(2, 16, 32)
    table = launchers.config("backward", x, weight)
    changed = launchers.config("backward", x, weight, stages=1, steps=2, warps=2)
    assert (changed.STAGES, changed.STEPS, changed.num_warps) == (1, 2, 2) and table.STAGES != 1
    time, batch = (
        launchers.config("backward", x, weight, form) for form in (launchers.TIME_ROWS, launchers.BATCH_ROWS)
    )
    assert time != batch and table in (time, batch)


@pytest.mark.parametrize(
    ("registers", "shared", "warps", "programs"),
    [
        (255, 16 << 10, 1, 8),  # 256 x 32 registers a warp
        (224, 16 << 10, 1, 9),
        (32, 0, 4, 16),  # 2048 threads
        (64, 112 << 10, 4, 2),  # shared memory, with 1 KB that the driver takes
        (32, 0, 1, 32),
    ],
)
def test_programs_of_one_multiprocessor(registers: int, shared: int, warps: int, programs: int) -> None:
    assert occupancy.programs_per_sm(H200, registers=registers, shared=shared, warps=warps) == programs


@pytest.mark.compiled
def test_the_kernels_of_a_call_are_described(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a device that launches nothing; with a limit of registers they are other kernels."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: H200)
    x, weight = torch.zeros(2, 3, 20, 1), torch.zeros(2, 1, 2)
    with cache.installed(), launchers.on_cpu_tensors():
        (used,) = launchers.kernels_of(lambda: launchers.min_gru(x, weight, None, None))
        with launchers.registers(64):
            launchers.min_gru(x, weight, None, None)
    assert used["kernel"] == "_min_gru_fwd_kernel" and used["programs"] == 6 and used["warps"] == 1
    assert set(used) == {"kernel", "programs", "registers", "shared", "warps", "spills", "programs_per_sm"}
    assert cache.kernels(tmp_path) == 2


def test_the_note_of_a_row_names_kernels_and_prediction() -> None:
    row = measured.Row("backward", "mid", "tf32", "backward", "table", median_ms=1.0)
    used = {"kernel": "_k", "programs": 1184, "registers": 224, "shared": 24 << 10, "spills": 3, "programs_per_sm": 9}
    row.detail |= {"predicted_us": (71, 79), "kernels": [used], "note": "checked on 2 of 3 terms"}
    assert measured._note(row) == (
        "checked on 2 of 3 terms; predicted 71 to 79 us; _k: 224 registers, 3 spills, 24 KB, 9 of 1184 an SM"
    )


def test_a_gate_of_continuous_time_is_timed_once_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured.functional, "min_gru", lambda x, weight: None)
    with pytest.raises(Unavailable, match="no gate of continuous time"):
        measured.ELAPSED.bind(SimpleNamespace(leaves=()))


def test_only_stages_are_taken(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        measured.main(["nothing", str(tmp_path / "rows.json")])
    assert "invalid choice" in capsys.readouterr().err
