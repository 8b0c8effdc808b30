"""The measurement of the estimators' training runs, in small."""

import pytest

from benchmarks import estimators


def test_each_model_is_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimators, "EPOCHS", 1)
    monkeypatch.setattr(estimators, "BATCH", 40)
    estimators.main(["--rows", "50", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| | NAM | RNAM |" and lines[-1].startswith("| ratio | ") and len(lines) == 5


def test_both_loops_learn_the_same() -> None:
    case = estimators.cases(320)["NAM"]
    parts = (case.input[:256], case.target[:256]), (case.input[256:], case.target[256:])
    first, second = (loop(case.make(), *parts) for loop in (estimators.by_hand, estimators.estimated))
    assert 0 < first < float(parts[1][1].var()) and 0.5 < first / second < 2


def test_a_large_table_is_learned_beside_an_ebm(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("interpret")
    estimators.main(["--table", "300", "--columns", "4", "--epochs", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["NAMClassifier, 2 epochs", "EBM without interactions", "EBM"]
    assert [line for line in lines if "CPU s " not in line or ", AUC 0." not in line] == []
