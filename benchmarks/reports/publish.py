"""`python -m benchmarks publish`: a run's JSON becomes the committed results of its device, and the README's table.

benchmarks/results/<device>/ gets results.json, README.md with every row, losses and failures included, and pictures.
The README's table holds one block for each device that has results, between the two comments.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.reports import plots, tables
from benchmarks.reports.run import ROOT, Run

RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


class NoMarkers(Exception):  # noqa: N818  it names what is missing
    """The README has no pair of comments to write between."""


def folder(device: str, results: Path = RESULTS) -> Path:
    """Of a device's name, in letters, digits and dashes."""
    return results / re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def publish(source: Path, readme: Path = ROOT / "README.md", results: Path = RESULTS) -> list[Path]:
    """Writes all of it; returns what was written.

    Raises:
        NoMarkers: the README has not both comments, once each; nothing is written then.
    """
    run = Run.load(source)
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise NoMarkers(f"{readme} must have {BEGIN} and {END} once each")
    target = folder(run.about["device"], results)
    target.mkdir(parents=True, exist_ok=True)
    run.save(target / "results.json")
    pictures = plots.draw(run, target)
    links = "\n".join(f"![{path.stem}]({path.name})" for path in pictures)
    (target / "README.md").write_text(tables.markdown(run) + (f"\n{links}\n" if links else ""))
    readme.write_text(between(text, table(results, readme.parent)))
    return [target / "results.json", target / "README.md", *pictures, readme]


def table(results: Path, root: Path) -> str:
    """The README's block: a summary and its pictures for each device."""
    blocks = []
    for path in sorted(results.glob("*/results.json")):
        here = path.parent.resolve().relative_to(root.resolve()).as_posix()
        block = (
            tables.summary(Run.load(path)) + f"\n\nEvery row, and who was missing or wrong: [{here}]({here}/README.md)."
        )
        if (path.parent / "speedup.png").exists():
            block += f"\n\n![How many times faster than the published eager form, by shape]({here}/speedup.png)"
        blocks.append(block)
    return "\n\n".join(blocks)


def between(text: str, block: str) -> str:
    """`text` with `block` between the comments."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{block}\n{END}{after}"
