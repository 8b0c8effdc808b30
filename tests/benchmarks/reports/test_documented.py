"""The figures that docs/results.md gives of a published run are those of its file."""

import re

import pytest

from benchmarks.protocol.machine import ROOT
from benchmarks.protocol.row import Row
from benchmarks.reports.publish import RESULTS
from benchmarks.reports.run import load

RUN = load(RESULTS / "nvidia-h200" / "results.json")
ROWS = {(row.shape, row.dtype, row.pass_, row.provider): row for row in RUN.rows if row.op == "min_gru"}
SHAPES = ("notebook", "p12", "electricity", "eeg-long")
KINDS = {"tf32": "tf32", "three-term": "float32", "bfloat16": "bfloat16"}
OTHERS = {
    "log space on batch rows, p12": ("p12", "tf32", "forward", "rnam-log"),
    "log space on batch rows, mid": ("mid", "tf32", "forward", "rnam-log"),
    "log space in pieces of time, eeg-wide": ("eeg-wide", "tf32", "forward", "rnam-log"),
    "long, forward": ("long", "tf32", "forward", "rnam"),
    "long, backward": ("long", "tf32", "backward", "rnam"),
}

pytestmark = pytest.mark.skipif(
    not RUN.about["commit"].startswith("5067d38"), reason="the page has the figures of the run at 5067d38"
)


def cell(key: tuple[str, str, str, str], aim: int) -> str:
    """A row's share of a copy of its own bytes, and of the run's anchor."""
    row, copy = ROWS[key], ROWS[*key[:3], "copy"]
    shares = 100 * copy.median_ms / row.median_ms, 100 * row.gbps / RUN.anchor.gbps
    return " -> ".join(f"**{share:.0f}**" if share >= aim else f"{share:.0f}" for share in shares)


def speeds(copies: list[Row]) -> tuple[int, int, int]:
    found = sorted(row.gbps for row in copies)
    return len(found), round(found[0]), round(found[-1])


def test_the_aims_against_one_anchor() -> None:
    text = (ROOT / "docs" / "results.md").read_text()
    lines = [line.strip("| \n").split(" | ") for line in text.splitlines() if " -> " in line]
    assert len(lines) == 6 + len(OTHERS)
    for first, *rest in lines:
        if first in OTHERS:
            aim, found = rest
            assert found == cell(OTHERS[first], int(aim)), first
        else:
            kind, aim, *found = rest
            assert found == [cell((shape, KINDS[kind], first, "rnam"), int(aim)) for shape in SHAPES], (first, kind)


def test_the_two_groups_of_copies() -> None:
    text = (ROOT / "docs" / "results.md").read_text()
    copies = [row for row in RUN.rows if row.provider == "copy"]
    groups = [[row for row in copies if row.gbps < 3000], [row for row in copies if row.gbps > 3000]]
    found = re.findall(r"^\| (\d+) \| (\d+) to (\d+) \|", text, re.MULTILINE)
    assert [tuple(map(int, numbers)) for numbers in found] == [speeds(group) for group in groups]
    uneven = [row for row in copies if _bytes(row) // 2 % 4096]
    assert [row for row in uneven if row not in groups[0]] == []
    assert len(groups[0]) - len(uneven) == 5
    assert min(_bytes(row) for row in groups[0] if row not in uneven) >= 640e6


def _bytes(row: Row) -> int:
    return RUN.shapes[f"{row.op}/{row.shape}/{row.dtype}"]["bytes"][row.pass_]
