"""`python -m benchmarks publish`: a run's JSON becomes the committed results of its device, and the README's table.

benchmarks/results/<device>/ gets results.json, README.md with every row, losses and failures included, and pictures.
The README's table holds one block for each device that has results, between the two comments.
"""

import re
from pathlib import Path

from benchmarks.protocol import anchor
from benchmarks.protocol.machine import ROOT
from benchmarks.reports import plots, tables
from benchmarks.reports.run import UsageError, load

RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def publish(
    source: Path, readme: Path = ROOT / "README.md", results: Path = RESULTS, given: tuple[float, str] | None = None
) -> list[Path]:
    """Writes all of it; returns the files written.

    The anchor is the one that is `given`, as GB/s and the reason for it, else the file's; a file without one has it
    from the fastest copy among its rows.

    Raises:
        UsageError: the file has no run, or the README not both comments, once each; nothing is written then.
    """
    run = load(source)
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise UsageError(f"{readme} must have {BEGIN} and {END} once each")
    device = run.about["device"]
    run.anchor = anchor.of_run(run.rows, run.shapes, device, run.anchor, given)
    if run.anchor is not None:
        run.anchor.rate(run.rows)
    target = results / re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    target.mkdir(parents=True, exist_ok=True)
    run.save(target / "results.json")
    pictures = plots.draw(run, target)
    links = "\n".join(f"![{path.stem}]({path.name})" for path in pictures)
    (target / "README.md").write_text(tables.markdown(run) + (f"\n{links}\n" if links else ""))
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{_blocks(results, readme.parent)}\n{END}{after}")
    return [target / "results.json", target / "README.md", *pictures, readme]


def _blocks(results: Path, root: Path) -> str:
    """A summary and its picture for each device."""
    blocks = []
    for path in sorted(results.glob("*/results.json")):
        here = path.parent.resolve().relative_to(root.resolve()).as_posix()
        block = f"{tables.summary(load(path))}\n\n"
        block += f"Every row, and who was missing or wrong: [{here}]({here}/README.md)."
        if (path.parent / "speedup.png").exists():
            block += f"\n\n![How many times faster than the published eager form, by shape]({here}/speedup.png)"
        blocks.append(block)
    return "\n\n".join(blocks)
