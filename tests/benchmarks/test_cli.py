"""The commands, on tiny shapes."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as cli
from benchmarks import commands, extra, providers, published, shapes, static
from benchmarks.results_file import FIELDS, Run
from benchmarks.shapes import Shape
from tests.benchmarks.support import a_run, use

TINY = {
    "p12": Shape("p12", 2, 3, 10, 4, 4),
    "notebook": Shape("notebook", 2, 3, 12, 4, 4),
    "nam-ens": Shape("nam-ens", 2, 3, 1, 1, 1, widths=(1, 4, 3, 1)),
    "scan-128": Shape("scan-128", 1, 2, 12, 6, 6),
}


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, shape in TINY.items():
        monkeypatch.setitem(shapes.SHAPES, name, shape)
    monkeypatch.setitem(
        shapes.QUICK,
        "cpu",
        {
            "layer": ("p12",),
            "linear": ("nam-ens",),
            "scan": ("scan-128",),
            "model": ("notebook",),
            "memory": ("p12",),
        },
    )
    monkeypatch.setattr(extra, "LENGTHS", (100, 300))
    names = ("rnam", "rnam-reference", "rnam-log", "published", "baddbmm", "minGRU-pytorch")
    for op, found in list(providers.REGISTRY.items()):
        monkeypatch.setitem(providers.REGISTRY, op, {n: p for n, p in found.items() if n in names})


QUICK = ["--device", "cpu", "--quick", "--rounds", "1"]


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize(
    "command", ["layer", "linear", "scan", "model", "ensemble", "wide", "overhead", "memory", "accuracy"]
)
def test_each_command(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.json"
    assert cli.main([command, *QUICK, "--json", str(path)]) == 0
    body = json.loads(path.read_text())
    assert body["rows"] and all(tuple(row) == FIELDS for row in body["rows"])
    ours = [row for row in body["rows"] if row["provider"] == "rnam"]
    timed = command not in ("memory", "accuracy")
    assert ours and all((row["median_ms"] is not None) == timed for row in ours)
    assert all(row["peak_mb"] is not None for row in ours) or command in ("ensemble", "wide", "overhead", "accuracy")
    assert "rnam" in capsys.readouterr().out


@pytest.mark.usefixtures("_tiny")
def test_all_goes_on_where_its_file_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.json"
    made: list[str] = []

    def stop_at_scan(op, *arguments):
        made.append(op)
        if op == "linear_scan" and not path.with_name("stopped").exists():
            path.with_name("stopped").touch()
            raise KeyboardInterrupt
        return work_make(op, *arguments)

    work_make = commands.work.make
    monkeypatch.setattr(commands.work, "make", stop_at_scan)
    figures = tmp_path / "figures.json"
    figures.write_text('{"rows": []}')
    monkeypatch.setattr(static, "FIGURES", figures)
    with pytest.raises(KeyboardInterrupt):
        cli.main(["all", *QUICK, "--json", str(path)])
    assert Run.load(path).done == ["min_gru/p12/float32", "linear/nam-ens/float32"]
    made.clear()
    assert cli.main(["all", *QUICK, "--json", str(path)]) == 0
    assert made == ["linear_scan", "log_scan", "model", "min_gru"]  # the last is that of the overhead
    run = Run.load(path)
    assert {row.op for row in run.rows} == {
        "min_gru", "linear", "linear_scan", "log_scan", "model", "ensemble", "wide", "overhead", "accuracy"
    }  # fmt: skip
    out = capsys.readouterr().out
    assert "2 of 11 are in" in out and "static, as committed" in out


@pytest.mark.usefixtures("_tiny")
def test_a_wrong_provider_is_printed_as_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, "min_gru", published=published.min_gru, rnam=lambda x, w: 0 * published.min_gru(x, w))
    assert cli.main(["layer", *QUICK, "--shape", "p12"]) == 0
    assert "wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["layer", "--shape", "p13"], "invalid choice: 'p13'"),
        (["layer", "--provider", "nobody"], "invalid choice: 'nobody'"),
        (["layer", "--device", "tpu"], "--device"),
        (["layer", "--device", "meta"], "cpu or cuda, got 'meta'"),
        (["layer", "--dtype", "tf32", "--device", "cpu"], "tf32 products are a GPU's"),
        (["layer", "--rounds", "0"], "must be at least 1"),
        (["linear", "--shape", "long"], "linear has no shape among long"),
        (["tune", "--device", "cpu"], "tune times kernels on a CUDA device"),
        (["overhead", "--device", "cpu", "--json", "/no/such/folder/x.json"], "is no directory"),
        (["publish", "/no/such/file.json"], "is no file"),
    ],
)
def test_errors_name_what_was_asked(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_there_is_no_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit):
        cli.main(["layer", "--device", "cuda"])
    assert "there is no CUDA device" in capsys.readouterr().err


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
    assert "can't be published" in capsys.readouterr().err
