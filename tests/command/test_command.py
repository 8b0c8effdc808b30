"""`python -m rnam report` and `predict`: what they write and say, what they guess, and what they refuse."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

import rnam
from rnam.command.options import main
from tests.command.support import ASKED, QUICK, report, visits, written
from tests.report.support import BREAK, SCRIPT, data_of


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with visits.csv, page.html and page.rnam."""
    folder: Path = tmp_path_factory.mktemp("command")
    assert report(written(folder / "visits.csv"), "--quiet", "--at", "visit") == 0
    return folder


def test_a_file_becomes_a_page_and_a_model(done: Path) -> None:
    model, data = rnam.load(done / "page.rnam"), data_of((done / "page.html").read_text("utf-8"))
    assert type(model).__name__ == data["model"] == "RNAMClassifier"
    assert data["title"] == "died: what the model says"
    assert data["ids"] == 6 and data["background"][0] == 24  # of 30 with --held-out 0.2
    frame = visits()
    panel = rnam.Panel.from_frame(frame[~frame["id"].isin([1])], like=model.schema_)
    e = model.explain(
        panel[data["people"]["ids"]], background=panel[[i for i in panel.ids if i not in data["people"]["ids"]]]
    )
    assert data["overview"]["importance"]["importance"] == sorted(e.importance().importance.tolist(), reverse=True)


def test_the_command_says_what_it_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(written(tmp_path / "visits.csv")) == 0
    out, err = capsys.readouterr()
    said = {line.split("  ")[1].strip(): " ".join(line.split()) for line in out.splitlines() if line.startswith("  ")}
    assert said["died"] == "died target 2 classes: alive, dead & gone; of each visit, guessed"
    assert said["bili"].startswith("bili numbers 0.1") and "% missing" in said["bili"]
    assert said[SCRIPT].startswith(f"{SCRIPT} numbers -")
    assert said["stage"] == f"stage categories 3 levels: {BREAK}, one, two"
    assert said["sex"] == "sex categories, static 2 levels: f, m"
    assert said["age"].startswith("age numbers, static")
    assert said["ward"] == "ward ignored always 3.0"
    assert said["born"] == "born ignored dates, which are not learned from"
    assert said["none"] == "none ignored empty"
    assert said["note"].startswith("note ignored") and said["note"].endswith("--categories takes them as levels")
    assert "Held out: 6 of 30 ids, which the page is about (--seed 0)" in out
    assert "Training RNAMClassifier, 1 member\n" in out and "Epoch 2/2" in err and "Explaining" in err


def test_predictions_are_those_of_the_model(done: Path) -> None:
    assert (
        main(["predict", str(done / "page.rnam"), str(done / "visits.csv"), "--out", str(done / "out.csv"), "--quiet"])
        == 0
    )
    found = pandas.read_csv(done / "out.csv")
    model = rnam.load(done / "page.rnam")
    exact = model.predict_proba(rnam.Panel.from_frame(visits(), like=model.schema_)).reset_index()
    assert list(found) == ["id", "date", "predicted died", "probability of alive", "probability of dead & gone"]
    for name in ("alive", "dead & gone"):
        np.testing.assert_array_equal(found[f"probability of {name}"], exact[name])
    assert (found["predicted died"] == exact[["alive", "dead & gone"]].idxmax(axis=1)).all()
    assert [id.removeprefix("'") for id in found["id"]] == exact["id"].tolist()
    assert found["id"].str.startswith("'=1+1").any()  # no formula
    assert (pandas.to_datetime(found["date"]) == exact["date"]).all()


def test_columns_may_be_in_another_order_and_a_file_without_labels(done: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "new.csv", visits().drop(columns=["died", "note"]).iloc[:, ::-1])
    for name in ("a.csv", "b.csv"):
        given = file if name == "a.csv" else done / "visits.csv"
        assert main(["predict", str(done / "page.rnam"), str(given), "--out", str(tmp_path / name), "--quiet"]) == 0
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


def test_parquet_is_read_as_csv_is(done: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    visits().to_parquet(tmp_path / "visits.parquet")
    assert report(tmp_path / "visits.parquet", "--quiet", "--at", "visit") == 0
    pages = [data_of((folder / "page.html").read_text("utf-8")) for folder in (done, tmp_path)]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (dict(sep=";", decimal=","), ["--decimal", ","]),
        (dict(sep="\t"), []),
        (dict(sep="#"), ["--separator", "#"]),
        (dict(date_format="%d.%m.%Y"), ["--date-format", "%d.%m.%Y"]),
        (dict(encoding="utf-16"), ["--encoding", "utf-16"]),
        (dict(na_rep="NA"), []),
    ],
)
def test_other_ways_of_writing_give_the_same_page(options: Any, more: list[str], done: Path, tmp_path: Path) -> None:
    assert report(written(tmp_path / "visits.csv", **options), "--quiet", "--at", "visit", *more) == 0
    assert (tmp_path / "page.html").read_text("utf-8") == (done / "page.html").read_text("utf-8")


def test_rows_may_be_in_any_order_and_empty_ones_are_left_out(done: Path, tmp_path: Path) -> None:
    frame = visits()
    order = frame.sort_values("date", kind="stable").groupby("id", sort=False)
    first = {id: n for n, id in enumerate(frame["id"].unique())}
    mixed = frame.iloc[np.random.default_rng(0).permutation(len(frame))]
    mixed = mixed.sort_values("id", key=lambda ids: ids.map(first), kind="stable")
    assert len(order) == 30 and not mixed["date"].equals(frame["date"])
    file = written(tmp_path / "visits.csv", mixed)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:5], "," * (len(mixed.columns) - 1), "", *lines[5:]]) + "\n")
    assert report(file, "--quiet", "--at", "visit") == 0
    assert (tmp_path / "page.html").read_text("utf-8") == (done / "page.html").read_text("utf-8")


def test_arguments_overrule_what_is_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = visits().assign(grade=np.arange(len(visits())) % 3)
    file = written(tmp_path / "visits.csv", frame)
    more = ["--categories", "grade", "note", "--values", "age", "--ignore", SCRIPT, "sex", "--static", "sex"]
    assert report(file, *more) == 1
    assert "--ignore and --static must name different columns, got 'sex' in both" in capsys.readouterr().err
    assert report(file, *more[:-2]) == 0
    said = {" ".join(line.split()[:2]) for line in capsys.readouterr().out.splitlines()}
    assert {"grade categories", "note categories", "age numbers", "sex ignored"} <= said
    schema = rnam.load(tmp_path / "page.rnam").schema_.schema
    assert [str(column.name) for column in schema.values] == ["bili", "age"]
    assert next(own.levels for own in schema.categories if own.name == "grade") == ("0", "1", "2")


@pytest.mark.parametrize(
    ("change", "at", "model"),
    [
        (lambda f: f.assign(died=f["bili"].fillna(1) + f["age"]), "visit", "RNAMRegressor"),
        (lambda f: f.assign(died=f.groupby("id")["age"].transform("first")), "id", "RNAMRegressor"),
        (lambda f: f.assign(died=f["sex"].map({"f": 0, "m": 1})), "id", "RNAMClassifier"),
        (lambda f: f.assign(died=f["sex"] == "f"), "id", "RNAMClassifier"),
        (lambda f: f.drop_duplicates("id"), "id", "NAMClassifier"),
        (lambda f: f.assign(died=np.arange(len(f)) % 3).astype({"died": str}), "visit", "RNAMRegressor"),
    ],
)
def test_the_target_decides_the_model(
    change: Any, at: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(written(tmp_path / "visits.csv", change(visits()))) == 0
    out = capsys.readouterr().out
    assert f"of each {at}, guessed" in out and f"Training {model}," in out
    assert rnam.load(tmp_path / "page.rnam").at_ == at


def test_several_classes_are_explained_one_at_a_time(tmp_path: Path) -> None:
    frame = visits().assign(died=np.array(["low", "mid", "top"])[np.arange(len(visits())) % 3])
    file = written(tmp_path / "visits.csv", frame)
    assert report(file, "--quiet") == 0
    assert data_of((tmp_path / "page.html").read_text("utf-8"))["output"] == "top"
    assert report(file, "--quiet", "--overwrite", "--output", "mid") == 0
    assert data_of((tmp_path / "page.html").read_text("utf-8"))["output"] == "mid"
    assert report(file, "--quiet", "--overwrite", "--output", "none") == 1


def broken(change: Any) -> Any:
    """Visits as words, in which a cell is changed."""
    frame = visits().astype(object)
    frame["date"] = visits()["date"].astype(str)
    found = change(frame)
    return frame if found is None else found


def at(row: int, column: str, value: Any) -> Any:
    """A change of the cell that a spreadsheet shows in this row."""

    def change(frame: Any) -> None:
        frame.loc[row - 2, column] = value

    return change


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        (at(9, "bili", "abc"), [], "row 9, column 'bili' must be a number, as "),
        (at(9, "bili", "abc"), ["--values", "bili"], "row 9, column 'bili' must be a number, got 'abc'"),
        (at(9, "bili", "1,5"), [], "--decimal , reads it"),
        (at(9, "bili", "inf"), [], "row 9, column 'bili' must be finite, got inf"),
        (at(9, "bili", "1e999"), [], "row 9, column 'bili' must be finite, got 1e999"),
        (at(9, "date", "31/12/2020"), [], "row 9, column 'date' must be a date like 2020-12-31; --date-format"),
        (at(9, "date", "2020-02-30"), [], "row 9, column 'date' must be a date like"),
        (at(9, "date", ""), [], "row 9, column 'date' must not be empty"),
        (at(9, "id", "NA"), [], "row 9, column 'id' must not be empty"),
        (at(9, "sex", "x"), ["--static", "sex"], "column 'sex' must be as in the other rows of the id"),
        (at(9, "died", "x"), ["--task", "regress"], "column 'died' must be a number, got 'alive'"),
        (lambda f: None, ["--at", "id"], "column 'died' must be as in the other rows of the id, got"),
        (lambda f: f.update({"died": ["alive"] * len(f)}), [], "must have labels that differ, got 'alive' alone"),
        (lambda f: f.update({"died": [""] * len(f)}), [], "column 'died' must have labels, got none"),
        (lambda f: None, ["--task", "survival"], "--task survival: this command has no survival yet"),
        (lambda f: None, ["--values", "billi"], "--values must name a column of the file, got 'billi'; it has id"),
        (lambda f: None, ["--values", "note"], "row 2, column 'note' must be a number, got 'text 0'"),
        (lambda f: None, ["--categories", "none"], "--categories must name columns to learn from, got 'none'"),
        (lambda f: None, ["--held-out", "1"], "--held-out must be between 0 and 1, got 1.0"),
        (lambda f: None, ["--date-format", "%Q"], "--date-format must be one of Python's strptime"),
        (lambda f: None, ["--encoding", "none"], "must be in none, got unknown encoding"),
        (lambda f: f[["id", "date", "died", "ward"]], [],
         "must have a column to learn from"),
        (lambda f: f[:30], [], "must have 10 ids or more"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_row(
    change: Any, more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "visits.csv", broken(change))
    assert report(file, *more) == 1
    err = capsys.readouterr().err
    assert err.startswith("rnam report: ") and message in err and "Traceback" not in err
    assert os.listdir(tmp_path) == ["visits.csv"]


def test_times_that_come_twice_and_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "visits.csv")
    lines = file.read_text().splitlines()

    def refused(content: str | bytes, message: str) -> None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        assert report(file) == 1
        assert message in capsys.readouterr().err

    refused("\n".join([*lines, lines[3]]), f"one row for each time, got rows 4 and {len(lines) + 1} of id")
    refused(
        "\n".join([*lines[:3], lines[3] + ",more", *lines[4:]]), "row 4 must have 12 cells, one for each column, got 13"
    )
    refused("", "got an empty file")
    refused(lines[0], "must have a row or more, got none")
    refused(lines[0].replace("bili", "sex"), "columns must have different names, got 'sex' for columns 3 and 6")
    refused("id,date,,died\n", "row 1 of")
    refused(b"id,date,died\n\xff\xfe,1,2\n", "--encoding cp1252 reads others")
    for name, message in (("visits.xlsx", "must end in .csv"), ("none.csv", "No such file")):
        assert report(tmp_path / name) == 1
        assert message in capsys.readouterr().err


def test_what_is_there_stays(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (done / "page.html").read_bytes()
    assert report(done / "visits.csv") == 1
    assert "is there" in capsys.readouterr().err
    assert report(done / "visits.csv", out="other.htm") == 1
    assert (done / "page.html").read_bytes() == before
    (done / "there.csv").write_text("mine")
    assert main(["predict", str(done / "page.rnam"), str(done / "visits.csv"), "--out", str(done / "there.csv")]) == 1
    assert (done / "there.csv").read_text() == "mine"


def test_predict_refuses_other_columns_levels_and_models(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(frame: Any, message: str, *more: str) -> None:
        file = written(tmp_path / "new.csv", frame)
        code = main(["predict", str(done / "page.rnam"), str(file), "--out", str(tmp_path / "out.csv"), *more])
        assert code == 1 and message in capsys.readouterr().err
        assert not (tmp_path / "out.csv").exists()

    refused(
        visits().drop(columns=["bili", "sex"]), "must have the columns of the training, got none called 'bili', 'sex'"
    )
    refused(broken(at(9, "stage", "three")), f"row 9, column 'stage' must be one of {BREAK}, one, two, got 'three'")
    refused(broken(at(9, "bili", "much")), "row 9, column 'bili' must be a number, got 'much'")
    refused(visits().assign(date=1), "got rows 2 and 3 of id")
    refused(visits().assign(date=np.arange(len(visits()))), "column 'date' must hold dates, as in the training, got 0")
    file = written(tmp_path / "new.csv", broken(at(9, "stage", "three")))
    assert (
        main(["predict", str(done / "page.rnam"), str(file), "--out", str(tmp_path / "o.csv"), "--unseen", "missing"])
        == 0
    )
    rnam.save(rnam.NAM(terms=3), tmp_path / "bare.rnam")
    assert main(["predict", str(tmp_path / "bare.rnam"), str(file), "--out", str(tmp_path / "n.csv")]) == 1
    assert "must be a fitted estimator, got a NAM" in capsys.readouterr().err


def test_wrong_arguments_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        [],
        ["report"],
        ["report", "a.csv", *ASKED],
        ["report", "a.csv", *ASKED, "--out", "a", "--at", "x"],
    ):
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        assert exit.value.code == 2
    assert "usage: python -m rnam" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["training", "explaining"])
def test_ctrl_c_stops_and_writes_no_page(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that Ctrl-C ends keeps its weights; the command ends all the same."""
    file = written(tmp_path / "visits.csv")

    def pressed(*given: Any, **more: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)

    place = {"training": "rnam.estimators.training._Net.run_single_epoch", "explaining": "rnam.report.terms.panels"}
    monkeypatch.setattr(place[where], pressed)
    assert report(file, "--quiet") == 130
    assert "page.html" not in os.listdir(tmp_path)


@pytest.mark.long
def test_the_module_runs_and_ends_with_its_status(tmp_path: Path) -> None:
    program = [sys.executable, "-W", "error", "-m", "rnam"]
    file = str(written(tmp_path / "visits.csv"))
    run = subprocess.run([*program, "report", file, *ASKED, "--out", "x.htm", *QUICK], capture_output=True, text=True)
    assert run.returncode == 1 and run.stderr == "rnam report: path must end in .html, got x.htm\n"
