"""Rows as a table of the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.reports.run import Row, Run

HEAD = (
    "shape",
    "type",
    "pass",
    "provider",
    "ms",
    "p20",
    "p80",
    "samples",
    "CPU ms",
    "faster",
    "by CPU",
    "GB/s",
    "copy",
    "peak MB",
    "error",
)


def cells(row: Row, detail: dict[str, Any]) -> list[str]:
    """What the table says of a row, then a remark."""
    number = lambda x, form: "" if x is None else format(x, form)
    return [
        row.shape,
        row.dtype,
        row.pass_,
        row.provider,
        number(row.median_ms, ".4g") if row.median_ms is not None else _without(detail),
        number(row.p20_ms, ".4g"),
        number(row.p80_ms, ".4g"),
        number(detail.get("samples"), "d"),
        number(detail.get("cpu_ms"), ".4g"),
        "" if row.speedup is None else f"{row.speedup:.2f}x",
        "" if "cpu_speedup" not in detail else f"{detail['cpu_speedup']:.2f}x",
        number(row.gbps, ".1f"),
        "" if row.copy_fraction is None else f"{100 * row.copy_fraction:.0f}%",
        number(row.peak_mb, ".1f"),
        number(row.max_error, ".1e"),
        remark(detail),
    ]


def _without(detail: dict[str, Any]) -> str:
    reason = detail.get("reason", "")
    return "wrong" if reason == "wrong" else "-" if reason else ""


def remark(detail: dict[str, Any]) -> str:
    parts = []
    if "compile_s" in detail:
        again = f", {detail['recompilations']} recompilations" if "recompilations" in detail else ""
        parts.append(f"compiled in {detail['compile_s']:.0f} s, {detail['graphs']} graphs{again}")
        if "next_length_s" in detail:
            graphs = detail["next_length_graphs"]
            parts.append(f"a step less: {detail['next_length_s']:.0f} s, {graphs} graphs")
    parts += [detail.get("reason", ""), detail.get("note", "")]
    method = detail.get("method", "")
    parts.append("" if method == "warm caches" else method)
    parts.append(f"clocks {detail['clocks']}" if detail.get("clocks") else "")
    return "; ".join(part for part in parts if part and part != "wrong")


def terminal(rows: Iterable[Row], details: dict[str, dict[str, Any]]) -> str:
    """A table of fixed columns, a remark last."""
    table = [[*HEAD, ""], *(cells(row, details.get(row.key, {})) for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEAD))]
    lines = []
    for line in table:
        padded = [c.ljust(w) if i < 4 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=False))]
        lines.append("  ".join([*padded, line[-1]]).rstrip())
    return "\n".join(lines)


def markdown(run: Run) -> str:
    """The whole run: what machine, and a table for each kind of work."""
    about = run.about
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        f"# {about['device']}",
        "",
        f"{versions}; {about['threads']} threads; commit {about['commit'][:12]}; {about['rounds']} rounds"
        + (f"; clocks (SM, memory, most) {about['clocks']}" if about["clocks"] else "")
        + _quick(run)
        + ".",
        "",
        "Milliseconds are medians of the samples, p20 and p80 beside them; at least 2 calls before the first, and on a"
        " CPU one before each, are not counted. Faster: times the base (the published eager form; baddbmm"
        " for linear layers; the published step for one step from a state), by CPU the same in CPU time. GB/s: the"
        " ideal bytes of `benchmarks/work.py` over the median. Copy: the time of a copy of as many bytes over the"
        " median. Peak: memory of the call beyond its inputs. Error: of the output relative to its largest, of"
        " gradients relative to their norm, against float64 steps; `wrong` is more than rounding explains. On a CPU"
        " caches are warm; on a GPU the remark says whether L2 was cold and calls were replayed from a graph.",
    ]
    for op in dict.fromkeys(row.op for row in run.rows):
        rows = [row for row in run.rows if row.op == op]
        lines += ["", f"## {op}", ""]
        lines += [_line([*HEAD, "remark"]), _line(["---"] * 4 + ["---:"] * (len(HEAD) - 4) + ["---"])]
        lines += [_line(cells(row, run.details.get(row.key, {}))) for row in rows]
    sizes = [(unit.split("/")[-2], shape) for unit, shape in run.shapes.items() if shape.get("sizes")]
    if sizes:
        lines += ["", "## Shapes", "", "| shape | terms x batch x steps x width | |", "|---|---|---|"]
        lines += dict.fromkeys(_line([name, shape["sizes"], shape["note"]]) for name, shape in sizes)
    if run.failed:
        lines += ["", "Broke off:", ""]
        lines += [f"- {unit}: {reason}" for unit, reason in run.failed.items()]
    return "\n".join(lines) + "\n"


def _quick(run: Run) -> str:
    """That it was a quick run, and whether any shape was made smaller for it."""
    if not run.about["quick"]:
        return ""
    return "; a quick run" + (" on smaller shapes" if any(s.get("note") for s in run.shapes.values()) else "")


def summary(run: Run) -> str:
    """The README's table: RNAM against the base and the fastest other provider, losses included.

    Of each kind of work its first type alone, forward and the whole step; the rest is in the device's own table.
    """
    lines = [
        f"**{run.about['device']}**, torch {run.about['versions']['torch']}, commit {run.about['commit'][:12]}"
        + _quick(run)
        + ":",
        "",
        "| work | shape | type | pass | RNAM, ms | against the base | against the fastest other | which is"
        " | copy bandwidth | peak memory over the base's |",
        "|---|---|---|---|---:|---:|---:|---|---:|---:|",
    ]
    first: dict[str, str] = {}
    for group in _groups(run.rows):
        ours = group.get("rnam")
        if ours is None or ours.pass_ == "backward" or ours.op == "accuracy":
            continue
        if first.setdefault(ours.op, ours.dtype) == ours.dtype:
            lines.append(_line(_summary_cells(ours, group, run.details.get(ours.key, {}))))
    return "\n".join(lines)


def _summary_cells(ours: Row, group: dict[str, Row], detail: dict[str, Any]) -> list[str]:
    head = [ours.op, ours.shape, ours.dtype, ours.pass_]
    if ours.median_ms is None:
        return [*head, detail.get("reason", ""), "", "", "", "", ""]
    best = min((r for r in group.values() if is_rival(r)), key=lambda r: r.median_ms or 0, default=None)
    base = _base(group)
    memory = ours.peak_mb / base.peak_mb if base and base.peak_mb and ours.peak_mb is not None else None
    return [
        *head,
        f"{ours.median_ms:.3g}",
        "" if ours.speedup is None else f"{ours.speedup:.1f}x",
        "" if best is None or best.median_ms is None else f"{best.median_ms / ours.median_ms:.2f}x",
        "" if best is None else best.provider,
        "" if ours.copy_fraction is None else f"{100 * ours.copy_fraction:.0f}%",
        "" if memory is None else f"{memory:.2f}",
    ]


def is_rival(row: Row) -> bool:
    """Another way to do the work that is timed and so right; torch.nn.GRU, another cell, is one by its name."""
    own = row.provider.startswith("rnam") or row.provider in ("copy", "products")
    return row.median_ms is not None and not own


def _base(group: dict[str, Row]) -> Row | None:
    """The row whose speed-up is 1 by definition."""
    from benchmarks.providers.registry import base

    op = next(iter(group.values())).op
    names = (base(op, True), base(op, False)) if op == "min_gru" else (base(op, False),)
    for name in names:
        row = group.get(name)
        if row is not None and row.median_ms is not None:
            return row
    return None


def _groups(rows: Iterable[Row]) -> Iterable[dict[str, Row]]:
    """The rows of one piece of work and pass, by provider."""
    groups: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        groups.setdefault((row.op, row.shape, row.dtype, row.pass_), {})[row.provider] = row
    return groups.values()


def _line(columns: list[str]) -> str:
    return "| " + " | ".join(column.replace("|", "/") for column in columns) + " |"
