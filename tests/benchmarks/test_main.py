"""The commands, on tiny shapes, and what they refuse."""

import argparse
import json
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as cli
from benchmarks.protocol.row import FIELDS
from benchmarks.providers import published
from tests.benchmarks.support import QUICK, use


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
    assert {row["median_ms"] is not None for row in ours} == {timed}
    if command not in ("ensemble", "wide", "overhead", "accuracy"):
        assert not [row for row in ours if row["peak_mb"] is None]
    assert "rnam" in capsys.readouterr().out


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
        (["overhead", "--device", "cpu", "--shape", "p12"], "unrecognized arguments: --shape p12"),
        (["static", "--dtype", "float32"], "unrecognized arguments: --dtype float32"),
        (["memory", "--device", "cpu", "--pass", "both"], "unrecognized arguments: --pass both"),
        (["publish", "/no/such/file.json"], "can't be read"),
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
    assert "there are 0 CUDA devices" in capsys.readouterr().err


def test_a_device_by_its_number_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams and events are made on the current device."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert cli._device("cuda:1") == torch.device("cuda:1") and cli._device("cuda").type == "cuda"
    assert chosen == [1, 0]
    with pytest.raises(argparse.ArgumentTypeError, match="there are 2 CUDA devices, got 'cuda:2'"):
        cli._device("cuda:2")
