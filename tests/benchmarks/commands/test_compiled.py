"""`static` prints and writes its rows; `tune` goes on in its file and keeps what is there."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as cli
from benchmarks import static, tune
from benchmarks.commands import compiled
from tests.benchmarks.support import ABOUT, a_run


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

    monkeypatch.setattr(cli, "_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(compiled, "about", lambda *_: dict(ABOUT))
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
    monkeypatch.setattr(compiled, "about", lambda *_: ABOUT | {"commit": "other"})
    with pytest.raises(SystemExit):
        cli.main(["tune", "--quick", "--json", str(path)])
    assert "choose another file" in capsys.readouterr().err


def test_static_writes_its_rows_and_prints_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads(static.FIGURES.read_text())["rows"]
    monkeypatch.setattr(static, "run", lambda *_: rows)
    path = tmp_path / "figures.json"
    assert cli.main(["static", "--json", str(path)]) == 0
    assert path.read_text() == static.FIGURES.read_text()
    said = capsys.readouterr().out
    for limit in static.limits(rows):
        if limit["copy_limit"] is not None and limit["cc"] == 90:
            assert f"{limit['pass']:9s} at most {100 * limit['copy_limit']:.0f}% of copy bandwidth on sm_90" in said
