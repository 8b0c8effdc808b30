"""What a run was measured on."""

import pytest

from benchmarks.protocol import machine
from benchmarks.protocol.machine import about
from tests.benchmarks.support import CPU


@pytest.mark.parametrize("git", ["", "of an older commit"])
def test_a_copy_is_told_its_commit(git: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_output", lambda *command: git)
    monkeypatch.delenv("RNAM_COMMIT", raising=False)
    assert about(CPU, quick=True, rounds=3)["commit"] == (f"{git} changed" if git else "unknown")
    monkeypatch.setenv("RNAM_COMMIT", "abcdef")
    assert about(CPU, quick=True, rounds=3)["commit"] == "abcdef"
