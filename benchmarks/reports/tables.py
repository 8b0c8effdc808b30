"""Rows as a table of the terminal and as Markdown."""

from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.protocol.row import Row
from benchmarks.reports.run import Run


def _number(value: float | None, form: str, factor: float = 1.0) -> str:
    return "" if value is None else form.format(factor * value)


_WITHOUT = {"": "", "wrong": "wrong"}  # what stands in the place of a time, by its reason

# The heads of the columns and what they say of a row; numbers from LEFT on.
COLUMNS: dict[str, Callable[[Row], str]] = {
    "shape": lambda row: row.shape,
    "type": lambda row: row.dtype,
    "pass": lambda row: row.pass_,
    "provider": lambda row: row.provider,
    "ms": lambda row: _number(row.median_ms, "{:.4g}") or _WITHOUT.get(row.detail.get("reason", ""), "-"),
    "p20": lambda row: _number(row.p20_ms, "{:.4g}"),
    "p80": lambda row: _number(row.p80_ms, "{:.4g}"),
    "samples": lambda row: _number(row.detail.get("samples"), "{:.0f}"),
    "CPU ms": lambda row: _number(row.detail.get("cpu_ms"), "{:.4g}"),
    "faster": lambda row: _number(row.speedup, "{:.2f}x"),
    "by CPU": lambda row: _number(row.detail.get("cpu_speedup"), "{:.2f}x"),
    "GB/s": lambda row: _number(row.gbps, "{:.1f}"),
    "copy": lambda row: _number(row.copy_fraction, "{:.0f}%", 100),
    "peak MB": lambda row: _number(row.peak_mb, "{:.1f}"),
    "error": lambda row: _number(row.max_error, "{:.1e}"),
}
LEFT = 4


def cells(row: Row) -> list[str]:
    """What the table says of a row, then a remark."""
    return [*(column(row) for column in COLUMNS.values()), _remark(row.detail)]


def _remark(detail: dict[str, Any]) -> str:
    parts = []
    if "compile_s" in detail:
        again = f", {detail['recompilations']} recompilations" if "recompilations" in detail else ""
        parts.append(f"compiled in {detail['compile_s']:.0f} s, {detail['graphs']} graphs{again}")
        if "next_length_s" in detail:
            parts.append(f"a step less: {detail['next_length_s']:.0f} s, {detail['next_length_graphs']} graphs")
    parts += [detail.get(key, "") for key in ("reason", "note", "method")]
    parts.append(f"clocks {detail['clocks']}" if detail.get("clocks") else "")
    return "; ".join(part for part in parts if part not in ("", "wrong", "warm caches"))


def terminal(rows: Iterable[Row]) -> str:
    """A table of fixed columns, a remark last."""
    table = [[*COLUMNS, ""], *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for *line, remark in table:
        padded = [f"{c:<{w}}" if i < LEFT else f"{c:>{w}}" for i, (c, w) in enumerate(zip(line, widths, strict=False))]
        lines.append("  ".join([*padded, remark]).rstrip())
    return "\n".join(lines)


EXPLANATION = (
    "Milliseconds are medians of the samples, p20 and p80 beside them; at least 2 calls before the first, and on a"
    " CPU one before each, are not counted. Faster: times the base (the published eager form; baddbmm"
    " for linear layers; the published step for one step from a state), by CPU the same in CPU time. GB/s: the"
    " ideal bytes of `benchmarks/protocol/work.py` over the median. Copy: GB/s over the run's copy bandwidth, the one"
    " figure above. Peak: memory of the call beyond its inputs. Error: of the output relative to its largest, of"
    " gradients relative to their norm, against float64 steps; `wrong` is more than rounding explains. On a CPU"
    " caches are warm; on a GPU the remark says whether L2 was cold and calls were replayed from a graph."
)


def markdown(run: Run) -> str:
    """The whole run: what machine, and a table for each kind of work."""
    about = run.about
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    clocks = f"; clocks (SM, memory, most) {about['clocks']}" if about["clocks"] else ""
    how = f"{about['threads']} threads; commit {about['commit'][:12]}; {about['rounds']} rounds{clocks}{_quick(run)}"
    lines = [f"# {about['device']}", "", f"{versions}; {how}.", "", *_anchor(run), EXPLANATION]
    aligned = ["---"] * LEFT + ["---:"] * (len(COLUMNS) - LEFT) + ["---"]
    for op in dict.fromkeys(row.op for row in run.rows):
        lines += ["", f"## {op}", "", _line([*COLUMNS, "remark"]), _line(aligned)]
        lines += [_line(cells(row)) for row in run.rows if row.op == op]
    sizes = [(unit.split("/")[-2], shape) for unit, shape in run.shapes.items() if shape.get("sizes")]
    if sizes:
        lines += ["", "## Shapes", "", "| shape | terms x batch x steps x width | |", "|---|---|---|"]
        lines += dict.fromkeys(_line([name, shape["sizes"], shape["note"]]) for name, shape in sizes)
    if run.anchor is not None and run.anchor.copies:
        lines += ["", "## Copies", "", "| by | MB | ms | p20 | p80 | GB/s | |", "|---|---:|---:|---:|---:|---:|---|"]
        lines += [_copy(found) for found in run.anchor.copies]
    if run.failed:
        lines += ["", "Broke off:", "", *(f"- {unit}: {reason}" for unit, reason in run.failed.items())]
    return "\n".join(lines) + "\n"


def _anchor(run: Run) -> list[str]:
    """The figure that shares of copy bandwidth are of, as a paragraph."""
    if run.anchor is None:
        return []
    text = str(run.anchor)
    return [f"{text[0].upper()}{text[1:]}.", ""]


def _copy(found: dict[str, Any]) -> str:
    """A line of the table of copies that the anchor was chosen from."""
    times = [_number(found.get(f"{part}_ms"), "{:.4g}") for part in ("median", "p20", "p80")]
    remark = found.get("method", "") or f"failed: {found['failed']}"
    return _line([found["way"], f"{found['bytes'] / 1e6:.1f}", *times, _number(found.get("gbps"), "{:.1f}"), remark])


def _quick(run: Run) -> str:
    """That it was a quick run, and whether any shape was made smaller for it."""
    if not run.about["quick"]:
        return ""
    return "; a quick run" + (" on smaller shapes" if any(s.get("note") for s in run.shapes.values()) else "")


def summary(run: Run) -> str:
    """The README's table: RNAM against the base and the fastest other provider, losses included.

    Of each kind of work its first type alone, forward and the whole step; the rest is in the device's own table.
    """
    about, first, groups = run.about, {}, {}
    for row in run.rows:
        groups.setdefault((row.op, row.shape, row.dtype, row.pass_), {})[row.provider] = row
    lines = [
        f"**{about['device']}**, torch {about['versions']['torch']}, commit {about['commit'][:12]}{_quick(run)}:",
        "",
        *_anchor(run),
        "| work | shape | type | pass | RNAM, ms | against the base | against the fastest other | which is"
        " | copy bandwidth | peak memory over the base's |",
        "|---|---|---|---|---:|---:|---:|---|---:|---:|",
    ]
    for (op, _, dtype, pass_), group in groups.items():
        if "rnam" in group and pass_ != "backward" and op != "accuracy" and first.setdefault(op, dtype) == dtype:
            lines.append(_line(_summary_cells(group)))
    return "\n".join(lines)


def _summary_cells(group: dict[str, Row]) -> list[str]:
    ours = group["rnam"]
    head = [ours.op, ours.shape, ours.dtype, ours.pass_]
    if ours.median_ms is None:
        return [*head, ours.detail.get("reason", ""), "", "", "", "", ""]
    best = min(filter(is_rival, group.values()), key=lambda r: r.median_ms or 0, default=None)
    base = next((row for row in group.values() if row.speedup == 1), None)  # by definition
    memory = ours.peak_mb / base.peak_mb if base and base.peak_mb and ours.peak_mb is not None else None
    return [
        *head,
        f"{ours.median_ms:.3g}",
        _number(ours.speedup, "{:.1f}x"),
        "" if best is None else f"{best.median_ms / ours.median_ms:.2f}x",
        "" if best is None else best.provider,
        _number(ours.copy_fraction, "{:.0f}%", 100),
        _number(memory, "{:.2f}"),
    ]


def is_rival(row: Row) -> bool:
    """Another way to do the work that is timed and so right; torch.nn.GRU, another cell, is one by its name."""
    own = row.provider.startswith("rnam") or row.provider in ("copy", "products", "own-work")
    return row.median_ms is not None and not own


def _line(columns: list[str]) -> str:
    return "| " + " | ".join(column.replace("|", "/") for column in columns) + " |"
