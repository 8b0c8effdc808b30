"""A run goes on: where its file ends, past what breaks off, until its time is over."""

import json
from pathlib import Path

import pytest
import torch

import rnam
from benchmarks import __main__ as cli
from benchmarks import static
from benchmarks.commands import session
from benchmarks.protocol import anchor
from benchmarks.protocol.anchor import Anchor
from benchmarks.reports.run import load
from rnam.backends import choice
from tests.benchmarks.support import ABOUT, QUICK, a_run, watch

CUDA = torch.device("cuda")


@pytest.mark.usefixtures("_tiny")
def test_all_goes_on_where_its_file_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.json"

    def stop_at_scan(op: str) -> None:
        if op == "linear_scan" and not path.with_name("stopped").exists():
            path.with_name("stopped").touch()
            raise KeyboardInterrupt

    made = watch(monkeypatch, stop_at_scan)
    figures = tmp_path / "figures.json"
    figures.write_text('{"rows": []}')
    monkeypatch.setattr(static, "FIGURES", figures)
    with pytest.raises(KeyboardInterrupt):
        cli.main(["all", *QUICK, "--json", str(path)])
    assert load(path).done == ["min_gru/p12/float32", "linear/nam-ens/float32"]
    made.clear()
    assert cli.main(["all", *QUICK, "--json", str(path)]) == 0
    assert made == ["linear_scan", "log_scan", "model", "linear", "min_gru", "min_gru"]  # of wide, and the overhead
    run = load(path)
    assert {row.op for row in run.rows} == {
        "min_gru", "linear", "linear_scan", "log_scan", "model", "ensemble", "wide", "overhead", "accuracy"
    }  # fmt: skip
    out = capsys.readouterr().out
    assert "2 of 12 are in" in out and "static, as committed" in out


@pytest.mark.usefixtures("_tiny")
def test_copy_bandwidth_is_measured_once_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything else, by the commands that have a use for it; another run in the same file goes on with it."""
    path, taken = tmp_path / "all.json", []
    take = anchor.take

    def noted(device: torch.device, rounds: int) -> Anchor:
        taken.append(rounds)
        return take(device, rounds)

    monkeypatch.setattr(anchor, "take", noted)
    assert cli.main(["accuracy", *QUICK, "--json", str(path)]) == 0
    assert not taken and load(path).anchor is None
    assert cli.main(["layer", *QUICK, "--json", str(path)]) == 0
    assert cli.main(["linear", *QUICK, "--json", str(path)]) == 0
    assert taken == [1]
    run = load(path)
    shares = {row.copy_fraction for row in run.rows if row.gbps is not None}
    assert len(shares) > 3 and shares == {row.gbps / run.anchor.gbps for row in run.rows if row.gbps is not None}
    assert str(run.anchor) in capsys.readouterr().out


def test_a_file_of_another_machine_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.json"
    a_run().save(path)
    before = path.read_text()
    with pytest.raises(SystemExit):
        cli.main(["layer", *QUICK, "--json", str(path)])
    assert "choose another file" in capsys.readouterr().err
    assert path.read_text() == before
    path.write_text("{}")
    with pytest.raises(SystemExit):
        cli.main(["publish", str(path)])
    assert "has no run" in capsys.readouterr().err


@pytest.mark.usefixtures("_tiny")
def test_what_breaks_off_does_not_stop_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shape for which there is no room, say: it is named, the next run has it last, and is through once it runs."""
    path = tmp_path / "all.json"
    broken = True

    def no_room(op: str) -> None:
        if broken and op == "linear_scan":
            raise torch.OutOfMemoryError("no room for it")

    made = watch(monkeypatch, no_room)
    assert cli.main(["scan", *QUICK, "--json", str(path)]) == 1
    assert made == ["linear_scan", "log_scan"]
    run = load(path)
    assert run.done == ["log_scan/scan-128/float32"]
    assert run.failed == {"linear_scan/scan-128/float32": "torch.OutOfMemoryError: no room for it"}
    assert "linear_scan/scan-128/float32 broke off: torch.OutOfMemoryError" in capsys.readouterr().err
    body = json.loads(path.read_text())
    body["done"] = []
    path.write_text(json.dumps(body))
    made.clear()
    broken = False
    assert cli.main(["scan", *QUICK, "--json", str(path)]) == 0
    assert made == ["log_scan", "linear_scan"] and not load(path).failed


@pytest.mark.usefixtures("_tiny")
def test_a_device_that_is_lost_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An illegal access makes every later call fail, those of the providers that follow included: none is kept."""
    path = tmp_path / "scan.json"

    def lost(device):
        raise torch.AcceleratorError("an illegal memory access was encountered")

    monkeypatch.setattr(session, "wait", lost)
    with pytest.raises(SystemExit):
        cli.main(["scan", *QUICK, "--json", str(path)])
    assert "cpu does not answer any more; with --json the next run goes on behind it" in capsys.readouterr().err
    run = load(path)
    assert not run.done and not run.rows and list(run.failed) == ["linear_scan/scan-128/float32"]


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize("installed", [True, False])
def test_all_takes_no_compiler(
    installed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints what is committed, in the interpreter's process too, and says so where triton is missing."""
    monkeypatch.setattr(choice, "_INTERPRETED", True)
    monkeypatch.setattr(choice, "triton_installed", lambda: installed)
    monkeypatch.setattr(cli, "UNITS", {"wide": lambda options: {"unit": lambda: ([], {})}})
    with rnam.set_backend("torch"):
        assert cli.main(["all", *QUICK]) == 0
    assert ("static, as committed" if installed else "static: triton is not installed") in capsys.readouterr().out


def test_on_a_gpu_it_ends_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A minute a shape, on a clock that moves with the shapes alone; another run goes on."""
    now = [0.0]
    done: list[str] = []

    def unit(name):
        now[0] += 60.0
        done.append(name)
        return [], {}

    monkeypatch.setattr(session.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(cli, "_device", lambda name: CUDA)
    monkeypatch.setattr(session, "wait", lambda device: None)
    monkeypatch.setattr(session, "about", lambda *_: dict(ABOUT))
    monkeypatch.setattr(session.anchor, "take", lambda device, rounds: Anchor(3000.0, "a copy"))
    monkeypatch.setitem(cli.UNITS, "wide", lambda options: {f"unit {i}": lambda i=i: unit(i) for i in range(10)})
    arguments = ["wide", "--quick", "--json", str(tmp_path / "quick.json")]
    assert cli.main(arguments) == 1
    assert done == list(range(8)) and now[0] <= 480
    assert "440 s are over and unit 8, unit 9 left" in capsys.readouterr().err
    assert cli.main(arguments) == 0 and done == list(range(10))
