"""Runs of the commands of the examples: with bad options, and interrupted ones that go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

__all__ = ["goes_on", "refuses"]


def refuses(main: Callable[[Sequence[str]], int], arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message with which argparse ends a command, before any work."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def goes_on(
    command: Any, arguments: list[str], out: Path, method: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> tuple[list[str], dict[str, Any]]:  # fmt: skip
    """Interrupt a command of pieces of work where a method is first fitted, and run it again to its end.

    Args:
        command: the module, whose `_predicted` is called with the name of the method first.
        out: the folder, in which results.json is written.

    Returns:
        what was done at the interruption, and the results.
    """
    arguments = [*arguments, "--out", str(out), "--json", str(out / "results.json")]
    predicted = command._predicted

    def stop(name: str, *given: object) -> object:
        if name == method:
            raise KeyboardInterrupt
        return predicted(name, *given)

    with monkeypatch.context() as patch:
        patch.setattr(command, "_predicted", stop)
        assert command.main(arguments) == 130
    assert f"goes on from {out / 'finished.json'}" in capsys.readouterr().err
    done = list(json.loads((out / "finished.json").read_text())["done"])
    assert command.main(arguments) == 0
    assert "Going on from" in capsys.readouterr().out
    return done, json.loads((out / "results.json").read_text())
