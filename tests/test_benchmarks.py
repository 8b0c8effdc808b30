"""The benchmark in a short form: it runs, and a wrong provider gets no time."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as benchmarks
from benchmarks import published
from tests.support import inputs, oracle


def test_the_published_form_is_the_same_function() -> None:
    x, w, _ = inputs.layer_inputs(2, 3, 30, 4, 5)
    # softplus ends at 20 in torch, which is worth 2e-9; sums of 30 logarithms add 1e-14
    torch.testing.assert_close(published.min_gru(x, w), oracle.min_gru(x, w)[0], rtol=1e-8, atol=0)


def test_quick_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(benchmarks.PROVIDERS, "broken", lambda x, w: 0 * published.min_gru(x, w))
    tripled = lambda x, w: 3 * (h := published.min_gru(x, w)) - 2 * h.detach()
    monkeypatch.setitem(benchmarks.PROVIDERS, "wrong gradient", tripled)
    monkeypatch.setitem(benchmarks.QUICK, "p12", (2, 3, 20, 4))
    out = tmp_path / "rows.json"
    arguments = ["benchmarks", "--quick", "--shape", "p12", "--repeats", "1", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    benchmarks.main()
    rows = json.loads(out.read_text())["rows"]
    assert [(r["pass"], r["provider"]) for r in rows] == [
        (step, name) for step in ("forward", "training") for name in ("rnam", "published", "broken", "wrong gradient")
    ]
    for row in rows:
        wrong = row["provider"] == "broken" or (row["provider"], row["pass"]) == (
            "wrong gradient",
            "training",
        )
        assert (row["median_ms"] is None) == wrong
        assert (row["speedup"] is None) == wrong
    assert "wrong" in capsys.readouterr().out
