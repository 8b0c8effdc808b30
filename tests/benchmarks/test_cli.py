"""The commands, on tiny shapes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import rnam
from benchmarks import __main__ as cli
from benchmarks import commands, extra, providers, published, shapes, static, tune
from benchmarks.results_file import FIELDS, Run
from benchmarks.shapes import Shape
from rnam import _dispatch
from tests.benchmarks.support import ABOUT, a_run, use

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


def watch(monkeypatch: pytest.MonkeyPatch, before: Callable[[str], None]) -> list[str]:
    """The ops of work as it is made, each after `before`, which may raise."""
    made: list[str] = []
    work_make = commands.work.make

    def make(op, *arguments):
        made.append(op)
        before(op)
        return work_make(op, *arguments)

    monkeypatch.setattr(commands.work, "make", make)
    return made


QUICK = ["--device", "cpu", "--quick", "--rounds", "1"]


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize(
    "command", ["layer", "linear", "scan", "model", "ensemble", "wide", "overhead", "memory", "accuracy"]
)
def test_each_command(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.json"
    assert cli.main([command, *QUICK, "--json", str(path)]) == 0
    body = json.loads(path.read_text())
    assert {tuple(row) for row in body["rows"]} == {FIELDS}
    ours = [row for row in body["rows"] if row["provider"] == "rnam"]
    timed = command not in ("memory", "accuracy")
    assert ours and [row["median_ms"] is not None for row in ours] == [timed] * len(ours)
    if command not in ("ensemble", "wide", "overhead", "accuracy"):
        assert not [row for row in ours if row["peak_mb"] is None]
    assert "rnam" in capsys.readouterr().out


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
        (["linear", "--device", "cpu", "--provider", "published"], "linear has none of --provider published"),
        (["tune", "--device", "cpu"], "tune times kernels on a CUDA device"),
        (["overhead", "--device", "cpu", "--json", "/no/such/folder/x.json"], "is no directory"),
        (["overhead", "--device", "cpu", "--json", "/"], "--json: / is a directory"),
        (["overhead", "--device", "cpu", "--shape", "p12"], "overhead takes no --shape"),
        (["static", "--dtype", "float32"], "static takes no --dtype"),
        (["memory", "--device", "cpu", "--pass", "both"], "memory takes no --pass"),
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
    run = Run.load(path)
    assert run.done == ["log_scan/scan-128/float32"]
    assert run.failed == {"linear_scan/scan-128/float32": "torch.OutOfMemoryError: no room for it"}
    assert "linear_scan/scan-128/float32 broke off: torch.OutOfMemoryError" in capsys.readouterr().err
    body = json.loads(path.read_text())
    body["done"] = []
    path.write_text(json.dumps(body))
    made.clear()
    broken = False
    assert cli.main(["scan", *QUICK, "--json", str(path)]) == 0
    assert made == ["log_scan", "linear_scan"] and not Run.load(path).failed


@pytest.mark.usefixtures("_tiny")
def test_a_device_that_is_lost_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An illegal access makes every later call fail, those of the providers that follow included: none is kept."""
    path = tmp_path / "scan.json"

    def lost(device):
        raise torch.AcceleratorError("an illegal memory access was encountered")

    monkeypatch.setattr(commands, "_wait", lost)
    with pytest.raises(SystemExit):
        cli.main(["scan", *QUICK, "--json", str(path)])
    assert "cpu does not answer any more; with --json the next run goes on behind it" in capsys.readouterr().err
    run = Run.load(path)
    assert not run.done and not run.rows and list(run.failed) == ["linear_scan/scan-128/float32"]


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize("installed", [True, False])
def test_all_takes_no_compiler(
    installed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints what is committed, in the interpreter's process too, and says so where triton is missing."""
    monkeypatch.setattr(_dispatch, "_INTERPRETED", True)
    monkeypatch.setattr(_dispatch, "triton_installed", lambda: installed)
    monkeypatch.setattr(commands, "_units", lambda *_: {"unit": lambda: ([], {}, {})})
    with rnam.set_backend("torch"):
        assert cli.main(["all", *QUICK]) == 0
    assert ("static, as committed" if installed else "static: triton is not installed") in capsys.readouterr().out


def test_tune_goes_on_and_keeps_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And finds before it measures that it could not write."""
    tuned: list[str] = []

    def one(key, device):
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        if len(tuned) == 2:
            raise KeyboardInterrupt
        tuned.append(key.name)
        return [{"key": key.name, "config": "c", "table": True, "median_ms": 1.0}]

    monkeypatch.setattr(commands, "_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(commands, "about", lambda *_: dict(ABOUT))
    monkeypatch.setattr(tune, "tune", one)
    other = tmp_path / "run.json"
    a_run().save(other)
    before = other.read_text()
    for path, message in ((other, "is none that tune can go on in"), ("/no/such/x.json", "is no directory")):
        with pytest.raises(SystemExit):
            cli.main(["tune", "--quick", "--json", str(path)])
        assert message in capsys.readouterr().err
    assert other.read_text() == before and not tuned
    path = tmp_path / "tune.json"
    for expected in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            cli.main(["tune", "--quick", "--json", str(path)])
        assert len(json.loads(path.read_text())["tune"]) == expected
        tuned.clear()
    monkeypatch.setattr(commands, "about", lambda *_: ABOUT | {"commit": "other"})
    with pytest.raises(SystemExit):
        cli.main(["tune", "--quick", "--json", str(path)])
    assert "choose another file" in capsys.readouterr().err


def test_a_type_sets_all_that_reads_the_precision() -> None:
    """What torch.compile reads raises where it differs from the newer setting."""
    cudnn = torch.backends.cudnn
    read = lambda: (
        torch.backends.cuda.matmul.fp32_precision,
        torch._C._get_cublas_allow_tf32(),
        cudnn.conv.fp32_precision,
        cudnn.rnn.fp32_precision,
        torch.get_float32_matmul_precision(),
    )
    before = read()
    with commands._precision("tf32"):
        assert read() == ("tf32", True, "tf32", "tf32", "high")
    for kind in ("float32", "bfloat16"):
        with commands._precision(kind):
            assert read() == ("ieee", False, "ieee", "ieee", "highest")
    assert read() == before


def test_a_device_by_its_number_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams and events are made on the current device."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert commands._device("cuda:1") == torch.device("cuda:1") and commands._device("cuda").type == "cuda"
    assert chosen == [1, 0]
    with pytest.raises(commands.Impossible, match="there are 2 CUDA devices, got 'cuda:2'"):
        commands._device("cuda:2")
