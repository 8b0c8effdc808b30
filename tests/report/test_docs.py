"""The page of reports: its code and its commands run from top to bottom, and print what stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pandas
import pytest

from rnam.command.options import main
from tests.report.support import data_of
from tests.support import pages


def test_the_code_and_the_commands_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert pages.run("report.md") == 2
    commands = re.findall(r"```bash\n(.*?)```\n\n```\n(.*?)```", (pages.DOCS / "report.md").read_text(), re.DOTALL)
    assert len(commands) == 2
    for command, expected in commands:
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "rnam"]
        assert main(words[3:]) == 0
        assert capsys.readouterr().out == expected
    found, page = pandas.read_csv("predictions.csv"), data_of(Path("report.html").read_text("utf-8"))
    assert len(found) == 333 and page["title"] == "died: what the model says"
    assert data_of(Path("union.html").read_text("utf-8"))["title"] == "Who dies?"
