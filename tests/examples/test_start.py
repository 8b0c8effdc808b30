"""How the examples start: a package that is missing is named, with the extra that has it."""

from __future__ import annotations

import importlib
import sys
import types

import pytest

from examples.start import start


def test_the_status_is_that_of_main(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("made_up")
    module.main = lambda: 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_up", module)
    with pytest.raises(SystemExit) as stopped:
        start("made_up", "demo")
    assert stopped.value.code == 3


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(SystemExit, match=r"error: No module named 'not_there'.*pip install -e '\.\[compare\]'"):
        start("not_there", "compare")


def test_interrupted_while_it_is_imported_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupt)
    with pytest.raises(SystemExit) as stopped:
        start("examples.tabular.command", "compare")
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "\nInterrupted before the training.\n"
