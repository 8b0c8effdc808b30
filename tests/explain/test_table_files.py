"""Tables as files: every legal name comes back, damage is refused as a ValueError, and no file is there by half."""

import csv
import io
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnam.explain import Table

ENDINGS = pytest.mark.parametrize("ending", ["csv", "json"])
NAN, INF = float("nan"), float("inf")
ODD = [
    "\r", "a\rb", "\r\n", "\n", "\ufeff", "\ufeffage", "=1+1", "=", "'", "'=1", "''", "'a", "@x", "+x", "-x", "\tx",
    ",", '"', '""', '"a"', "a,b", " ", " a ", "\0", "\x1a", "\x85", "\u2028", "µ", "😀", "inf", "nan", "1.5", "NULL",
    "x" * 200_000, ("a" + '"' + ",\r\n") * 40_000,
]  # fmt: skip
FLOATS = [0.1, 1e-310, 5e-324, -0.0, 0.0, 1e300, NAN, INF, -INF, 2 / 3, -1e-5, 123456789.0, 1e16]


def _table(names: list[str], numbers: list[float] | None = None) -> Table:
    given = np.resize(np.array(FLOATS if numbers is None else numbers, np.float64), (4, max(1, len(names))))
    x, contribution, low, high = given[:, : len(names)]
    counts = np.arange(len(names)) * 2**50
    return Table(tuple(names), x, tuple(reversed(names)), contribution, low, high, counts)


def _assert_same(got: Table, expected: Table) -> None:
    assert (got.term, got.unit) == (expected.term, expected.unit)
    for name in ("x", "contribution", "low", "high"):
        one, other = getattr(got, name), getattr(expected, name)
        assert one.dtype == other.dtype == np.float64
        # to the last bit and the sign of 0; one NaN is as good as another
        np.testing.assert_array_equal(np.where(np.isnan(one), 0, one.view(np.int64)),
                                      np.where(np.isnan(other), 0, other.view(np.int64)), name)  # fmt: skip
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other), name)
    assert got.n.dtype == np.int64
    np.testing.assert_array_equal(got.n, expected.n)


@ENDINGS
def test_odd_names_and_numbers_come_back(tmp_path: Path, ending: str) -> None:
    for names in ([name] for name in ODD):
        _table(names).write(tmp_path / f"one.{ending}")
        _assert_same(Table.read(tmp_path / f"one.{ending}"), _table(names))
    whole = _table(ODD)
    whole.write(tmp_path / f"all.{ending}")
    _assert_same(Table.read(str(tmp_path / f"all.{ending}")), whole)
    empty = _table([])
    empty.write(tmp_path / f"none.{ending}")
    _assert_same(Table.read(tmp_path / f"none.{ending}"), empty)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.text("=+-@\t\r\n'\",a \ufeff", max_size=5)


@ENDINGS
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(names=st.lists(TEXT, max_size=5), numbers=st.lists(st.floats(), min_size=1, max_size=9))
def test_any_text_comes_back(tmp_path: Path, ending: str, names: list[str], numbers: list[float]) -> None:
    before = _table(names, numbers)
    before.write(tmp_path / f"t.{ending}")
    _assert_same(Table.read(tmp_path / f"t.{ending}"), before)


def test_no_word_is_a_formula_in_a_spreadsheet(tmp_path: Path) -> None:
    _table(ODD).write(tmp_path / "t.csv")
    limit = csv.field_size_limit(10**7)
    try:
        head, *rows = csv.reader(io.StringIO((tmp_path / "t.csv").read_bytes().decode(), newline=""))
    finally:
        csv.field_size_limit(limit)
    assert len(rows) == len(ODD)
    for row in rows:
        words = [cell for title, cell in zip(head, row, strict=True) if title in ("term", "unit")]
        assert not [word for word in words if word.startswith(tuple("=+-@\t\r"))]


def test_other_programs_read_it(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    before = _table(["a", "b, c", 'd "e"', "µ"], [0.1, 2 / 3, -1.5, 4e-7])
    before.write(tmp_path / "t.csv")
    before.write(tmp_path / "t.json")
    frame = pandas.read_csv(tmp_path / "t.csv")
    content = json.loads((tmp_path / "t.json").read_text())
    for name, column in before.to_frame().items():
        assert list(column) == content[name]
        if name in ("term", "unit"):
            assert list(frame[name]) == list(column)
        else:
            np.testing.assert_allclose(frame[name], column, rtol=1e-15)  # pandas reads floats to the last bit or so


# ---- damage ----


def _small(path: Path) -> bytes:
    _table(["a\r", '=µ"'], [0.5, NAN, -2.25, 7.0, INF]).write(path)
    return path.read_bytes()


@ENDINGS
def test_a_file_that_was_cut_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    whole = _small(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"t.{ending} must"):
            Table.read(path)
        path.write_bytes(whole[length + 1 :])
        with pytest.raises(ValueError, match=f"t.{ending} must"):
            Table.read(path)


@ENDINGS
def test_a_file_with_any_byte_changed_is_refused(tmp_path: Path, ending: str) -> None:
    """Each bit of it, and letters that the formats know."""
    _change_each_byte(tmp_path / f"t.{ending}", {1 << bit for bit in range(8)}, b"\r\n,0")


@pytest.mark.slow
@ENDINGS
def test_a_file_with_any_byte_in_the_place_of_any_is_refused(tmp_path: Path, ending: str) -> None:
    _change_each_byte(tmp_path / f"t.{ending}", set(range(1, 256)), b"")


def _change_each_byte(path: Path, flips: set[int], others: bytes) -> None:
    whole = _small(path)
    for at, byte in enumerate(whole):
        for other in {byte ^ flip for flip in flips} | set(others) - {byte}:
            path.write_bytes(whole[:at] + bytes([other]) + whole[at + 1 :])
            with pytest.raises(ValueError, match=f"{path.name} must"):
                Table.read(path)


@ENDINGS
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_any_damage_is_refused(tmp_path: Path, ending: str, data: st.DataObject) -> None:
    """A part cut out, put twice, moved, or other bytes in its place."""
    path = tmp_path / f"t.{ending}"
    whole = _small(path)
    first = data.draw(st.integers(0, len(whole)))
    last = data.draw(st.integers(first, len(whole)))
    part, rest = whole[first:last], whole[:first] + whole[last:]
    at = data.draw(st.integers(0, len(rest)))
    new = data.draw(st.sampled_from([b"", part, part * 2]) | st.binary(max_size=6))
    damaged = rest[:at] + new + rest[at:]
    path.write_bytes(damaged)
    if damaged == whole:
        Table.read(path)
    else:
        with pytest.raises(ValueError, match=f"t.{ending} must"):
            Table.read(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
SCALAR = st.sampled_from([None, True, -1, 0, 1, 0.5, "", "a", "1", "inf", [], {}, 10**400, -(10**400)])
KEYS = ["term", "x", "unit", "contribution", "low", "high", "n"]
COLUMNS = st.fixed_dictionaries({key: st.lists(SCALAR, min_size=1, max_size=1) for key in KEYS})
HEAD = ",".join(KEYS) + "\n"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(content=JSON | COLUMNS)
def test_any_json_is_a_table_or_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(content))
    _read_or_refuse(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(text=st.binary(max_size=40) | st.text('a,"\r\n1.5e-', max_size=30).map(lambda t: (HEAD + t + "\n").encode()))
def test_any_csv_is_a_table_or_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text)
    _read_or_refuse(path)


def _read_or_refuse(path: Path) -> None:
    try:
        table = Table.read(path)
    except ValueError as error:
        refused = str(error)
    else:
        lengths = {len(getattr(table, name)) for name in KEYS}
        assert len(lengths) == 1
        assert not (table.n < 0).any()
        assert {type(word) for word in table.term + table.unit} <= {str}
        return
    assert refused.startswith(f"{path.name} must")


REST = '"unit": ["mg"], "contribution": [1], "low": [0], "high": [2]'


WRONG: dict[str, tuple[str | None, str]] = {
    "nan.json": (f'{{"term": ["a"], "x": [NaN], {REST}, "n": [1]}}', "must have null for NaN, got NaN"),
    "part.json": (f'{{"term": ["a"], "x": [1], {REST}, "n": [1.5]}}', "must have counts in n, got 1.5"),
    "flag.json": (f'{{"term": ["a"], "x": [true], {REST}, "n": [1]}}', "must have numbers in x, got True"),
    "less.json": (f'{{"term": ["a"], "x": [1], {REST}, "n": [-1]}}', "must have counts in n, got -1"),
    "huge.json": (f'{{"term": ["a"], "x": [1], {REST}, "n": [{10**30}]}}', "must be a table: .*too large"),
    "words.json": (f'{{"term": [1], "x": [1], {REST}, "n": [1]}}', "must be a table: term must be str, got int"),
    "text.json": (f'{{"term": "a", "x": [1], {REST}, "n": [1]}}', "must have a list in every column"),
    "order.json": (f'{{"x": [1], "term": ["a"], {REST}, "n": [1]}}', "must have the columns term, x"),
    "twice.json": (f'{{"term": ["a"], "term": ["a"], "x": [1], {REST}, "n": [1]}}', "must have each column once"),
    "deep.json": ("[" * 100_000, "must be a table: maximum recursion"),
    "half.json": (f'{{"term": ["\\ud800"], "x": [1], {REST}, "n": [1]}}', "term must be text"),
    "under.csv": (HEAD + "a,1_0,mg,2,,,3\n", "must have numbers in x, got '1_0'"),
    "space.csv": (HEAD + "a, 1,mg,2,,,3\n", "must have numbers in x, got ' 1'"),
    "count.csv": (HEAD + "a,1,mg,2,,,1.0\n", "must have counts in n, got '1.0'"),
    "arabic.csv": (HEAD + "a,1,mg,2,,,\u0663\n", "must have counts in n"),
    "quote.csv": (HEAD + 'a"b,1,mg,2,,,3\n', "must have cells in quotes or without any"),
    "empty.csv": ("", "must end in a line end"),
    "end.csv": (HEAD + "a,1,mg,2,,,3", "must end in a line end"),
    "open.csv": (HEAD + '"a,1,mg,2,,,3\n', "must have cells in quotes or without any"),
    "bom.csv": ("\ufeff" + HEAD + "a,1,mg,2,,,3\n", "must have the columns"),
    "latin.csv": (None, "must be a table: 'utf-8' codec can't decode"),
    "later.csv": (HEAD[:-1] + ",rnam.explain.Table 3 00ff\n", "must be of version 2, got 3"),
    "first.csv": (HEAD[:-1] + ",rnam.explain.Table 1 \n", "must be of version 2, got 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(tmp_path: Path, name: str) -> None:
    text, message = WRONG[name]
    content = (HEAD + "\xb5,1,mg,2,,,3\n").encode("latin-1") if text is None else text.encode("utf-8", "surrogatepass")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"^{name} {message}" if message.startswith("must") else message):
        Table.read(tmp_path / name)


@ENDINGS
def test_line_ends_of_another_system_are_no_damage(tmp_path: Path, ending: str) -> None:
    """A checkout of git may change all of them."""
    before = _table(["a", "b\r", "c"])
    before.write(tmp_path / f"t.{ending}")
    content = (tmp_path / f"t.{ending}").read_bytes()
    (tmp_path / f"t.{ending}").write_bytes(content.replace(b"\n", b"\r\n"))
    _assert_same(Table.read(tmp_path / f"t.{ending}"), before)


# as rnam 0.2 wrote them
OLD_CSV = """term,x,unit,contribution,low,high,n
(intercept),,,0.25,,,4
"a, b",0.1,mg,-1e-05,-1.0,1.0,3
"say ""x""\",,=,2.0,,,1
"""
OLD_JSON = """{
 "term": ["(intercept)", "a, b", "say \\"x\\""], "x": [null, 0.1, null], "unit": ["", "mg", "="],
 "contribution": [0.25, -1e-05, 2.0], "low": [null, -1.0, null], "high": [null, 1.0, null], "n": [4, 3, 1]
}
"""


@pytest.mark.parametrize(("ending", "text"), [("csv", OLD_CSV), ("json", OLD_JSON)])
def test_files_of_0_2_are_read(tmp_path: Path, ending: str, text: str) -> None:
    path = tmp_path / f"t.{ending}"
    path.write_text(text)
    names, x, low = ("(intercept)", "a, b", 'say "x"'), np.array([NAN, 0.1, NAN]), np.array([NAN, -1.0, NAN])
    expected = Table(names, x, ("", "mg", "="), np.array([0.25, -1e-05, 2.0]), low, -low, np.array([4, 3, 1]))
    _assert_same(Table.read(path), expected)
    for at in range(len(text)):
        for damaged in (text[:at], text[:at] + "\r" + text[at + 1 :], text[:at] + "9" + text[at + 1 :]):
            path.write_text(damaged)
            _read_or_refuse(path)


# ---- whole or not at all ----


@ENDINGS
@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_file(
    tmp_path: Path, ending: str, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"t.{ending}"
    before = _small(path)

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="no space left"):
        _table(["other"]).write(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


BAD = {
    "lengths": {"x": np.zeros(3)},
    "names": {"term": ("a", 1)},
    "half of a pair": {"unit": ("", "\ud800")},
    "words for numbers": {"low": np.array(["a", "b"])},
    "two dimensions": {"high": np.zeros((2, 1))},
    "parts of counts": {"n": np.array([1.0, 2.0])},
    "counts below 0": {"n": np.array([1, -2])},
    "objects": {"x": np.array([1.0, None])},
}


@ENDINGS
@pytest.mark.parametrize("bad", BAD)
def test_a_table_that_is_none_is_not_written(tmp_path: Path, ending: str, bad: str) -> None:
    path = tmp_path / f"t.{ending}"
    before = _small(path)
    table = _table(["a", "b"])
    columns = {name: getattr(table, name) for name in KEYS} | BAD[bad]
    with pytest.raises((ValueError, TypeError)):
        Table(**columns).write(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@ENDINGS
def test_a_reader_never_finds_a_part(tmp_path: Path, ending: str) -> None:
    path, stop, found = tmp_path / f"t.{ending}", threading.Event(), []
    tables = [_table(["a"] * n) for n in (1, 1000)]
    tables[0].write(path)

    def read() -> None:
        while not stop.is_set():
            try:
                found.append(len(Table.read(path).term))
            except Exception as error:
                found.append(repr(error))

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(20):
        tables[n % 2].write(path)
    stop.set()
    reader.join()
    assert set(found) <= {1, 1000}


def test_the_place_of_a_file_stays(tmp_path: Path) -> None:
    """A link leads to the new content, and whoever could read the old file can read the new one."""
    real, link = tmp_path / "real", tmp_path / "t.csv"
    real.mkdir()
    (real / "there.csv").write_text("")
    (real / "there.csv").chmod(0o640)
    link.symlink_to(real / "there.csv")
    _table(["a"]).write(link)
    assert link.is_symlink()
    assert stat.S_IMODE((real / "there.csv").stat().st_mode) == 0o640
    _assert_same(Table.read(link), _table(["a"]))
    before = os.umask(0o027)
    try:
        _table(["a"]).write(tmp_path / "new.json")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.json").stat().st_mode) == 0o640


def test_the_longest_name_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".csv")
    _table(["a"]).write(path)
    _assert_same(Table.read(path), _table(["a"]))


def test_rows_of_a_term_that_do_not_stand_together() -> None:
    got = _table(["a", "b", "a"], [1.0, 2.0, 3.0]).rows("a")
    assert got.term == ("a", "a")
    np.testing.assert_array_equal(got.x, [1.0, 3.0])
