"""One step beside its own work: who is compared, the ratios, and an earlier run beside."""

from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as cli
from benchmarks.commands import overhead
from benchmarks.reports.run import load
from tests.benchmarks.support import QUICK
from tests.support import bounds, inputs, oracle


def test_own_work_is_the_step() -> None:
    x, weight, h0 = inputs.layer_inputs(2, 3, 1, 4, 4)
    x = inputs.away_from_the_kink(x, weight)
    leaves = [t.requires_grad_() for t in (x, weight, h0)]
    found = [function(*leaves) for function in (overhead.own_work, lambda *t: oracle.min_gru(*t)[0])]
    bounds.assert_same(*found)
    bounds.assert_same(*(torch.autograd.grad(h.sum(), leaves) for h in found))


def test_ratios_are_those_of_a_round() -> None:
    found = overhead._ratios(
        "rnam", {"rnam": [2.0, 6.0, 8.0], "own-work": [1.0, 2.0, 4.0], "published-step": [1.0] * 3}
    )
    assert found["cpu_best_ms"] == 2.0
    assert found["over_own_work"] == {"median": 2.0, "p25": 2.0, "p75": 2.5, "best": 2.0}
    assert found["published_over_it"]["best"] == 0.5
    assert "over_own_work" not in overhead._ratios("own-work", {"own-work": [1.0]})


@pytest.mark.usefixtures("_tiny")
def test_an_earlier_run_stands_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tmp_path / "before.json"
    assert cli.main(["overhead", *QUICK, "--json", str(before)]) == 0
    rows = load(before).rows
    assert {row.provider for row in rows} == {provider.name for provider in overhead.PROVIDERS}
    assert not [row for row in rows if row.detail["cpu_best_ms"] <= 0 or row.max_error > 1e-5]
    assert "before" not in capsys.readouterr().out
    assert cli.main(["overhead", *QUICK, "--before", str(before)]) == 0
    out = capsys.readouterr().out
    assert out.count("its own work") == out.count("before") - out.count("published over it") == 16
    with pytest.raises(SystemExit):
        cli.main(["overhead", *QUICK, "--before", "/no/such/file.json"])
    assert "can't be read" in capsys.readouterr().err
