"""One piece of work by all its providers: compared with the oracle, then timed, then its memory."""

from __future__ import annotations

import functools
import time
import traceback
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.protocol import measure, memory, work
from benchmarks.protocol.provider import Bound, Provider, Unavailable
from benchmarks.protocol.work import Work
from benchmarks.providers import compiled, model, registry
from benchmarks.reports.run import Row, clocks


@dataclass(frozen=True)
class Settings:
    """`left_out` are providers that don't run, and why; `quick` lets one sample do of what is slow."""

    passes: tuple[str, ...]
    rounds: int
    timed: bool = True
    only: tuple[str, ...] = ()
    next_length: bool = False
    left_out: dict[str, str] = field(default_factory=dict)
    quick: bool = False


@dataclass
class Candidate:
    """A provider at a piece of work: bound and compared, or why not."""

    provider: Provider
    bound: Bound | None = None
    errors: tuple[float, float] | None = None
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def error(self, pass_: str) -> float | None:
        if self.errors is None:
            return None
        return {"forward": self.errors[0], "backward": self.errors[1], "both": max(self.errors)}[pass_]


def run(job: Work, settings: Settings) -> tuple[list[Row], dict[str, dict[str, Any]]]:
    """Rows, and the details under their keys, of each pass and provider, the copy of the same bytes included."""
    compiled.reset()
    chosen = [p for p in registry.REGISTRY[job.op].values() if not settings.only or p.name in settings.only]
    wanted: dict[bool, work.Expected] = {}
    candidates = [_candidate(job, provider, settings, wanted) for provider in chosen]
    rows: list[Row] = []
    details: dict[str, dict[str, Any]] = {}
    for pass_ in settings.passes:
        for row, detail in _pass(job, candidates, pass_, settings):
            rows.append(row)
            details[row.key] = detail
    return rows, details


def _candidate(job: Work, provider: Provider, settings: Settings, wanted: dict[bool, work.Expected]) -> Candidate:
    candidate = Candidate(provider, reason=settings.left_out.get(provider.name, ""))
    if candidate.reason:
        return candidate
    graphs = compiled.graphs()
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a compiler, and of operators without a batching rule
            bound = provider.bind(job)
            results = bound.common(_first_calls(bound, settings)) if provider.checked else None
    except Unavailable as missing:
        candidate.reason = str(missing)
        return candidate
    except Exception as error:
        candidate.reason = f"failed: {last_line(error)}"
        return candidate
    if provider.compiled:
        candidate.details["compile_s"] = round(time.perf_counter() - start, 2)
        candidate.details["graphs"] = compiled.graphs() - graphs
    candidate.bound = bound
    candidate.details["note"] = bound.note
    if results is not None:
        try:
            want = _expected(job, provider.masked, wanted)
            candidate.errors = work.errors(results, want, bound.terms)
            candidate.details["note"] = "; ".join(filter(None, (bound.note, want.note)))
        except ValueError as error:
            candidate.bound, candidate.reason = None, f"failed: {error}"
    return candidate


def _first_calls(bound: Bound, settings: Settings) -> tuple[torch.Tensor, ...]:
    """Of each pass that is timed, so that nothing compiles later; the results of a whole step."""
    if "forward" in settings.passes:
        bound.forward()
    return bound.both()


def _expected(job: Work, masked: bool, known: dict[bool, work.Expected]) -> work.Expected:
    if masked not in known:
        known[masked] = model.expected(job) if job.op == "model" else work.expected(job, masked)
    return known[masked]


def last_line(error: Exception) -> str:
    return traceback.format_exception_only(error)[-1].strip().splitlines()[0][:300]


def _pass(job: Work, candidates: list[Candidate], pass_: str, settings: Settings) -> list[tuple[Row, dict[str, Any]]]:
    found = []
    makers: dict[str, measure.Maker] = {}
    count = job.bytes(pass_)
    rotations = measure.copies(sum(map(work.nbytes, job.leaves)), job.device)
    for candidate in candidates:
        name = candidate.provider.name
        row = Row(job.op, job.shape.name, job.kind, pass_, name)
        found.append((row, dict(candidate.details)))
        bound = candidate.bound
        if bound is None:
            found[-1][1]["reason"] = candidate.reason
            continue
        row.max_error = candidate.error(pass_)
        if row.max_error is not None and not _right(job, candidate, pass_):
            found[-1][1]["reason"] = "wrong"
            continue
        try:
            if pass_ != "backward":
                call = bound.forward if pass_ == "forward" else bound.both
                row.peak_mb = round(memory.peak_bytes(call, job.device) * bound.factor / (1 << 20), 3)
        except Exception as error:
            found[-1][1]["reason"] = f"failed: {last_line(error)}"
            continue
        makers[name] = functools.partial(_timer, bound, rotations, pass_, job.device)
    if settings.timed:
        if count is not None:
            makers["copy"] = functools.partial(measure.copy_timer, count, rotations, job.device)
            found.append((Row(job.op, job.shape.name, job.kind, pass_, "copy"), {"note": "a copy of the same bytes"}))
        graphs = compiled.graphs()
        least = (measure.QUICK_SECONDS, measure.QUICK_LEAST) if settings.quick else ()
        samples, failures = measure.each(makers, settings.rounds, job.device, *least)
        now = clocks(job.device)
        factors = {c.provider.name: c.bound.factor for c in candidates if c.bound is not None}
        for row, detail in found:
            if row.provider in failures:
                detail["reason"] = f"failed: {last_line(failures[row.provider])}"
            if row.provider in samples:
                _fill(row, detail, samples[row.provider], factors.get(row.provider, 1.0), count)
                detail |= {"clocks": now} if now else {}
                if "graphs" in detail:
                    detail["recompilations"] = compiled.graphs() - graphs
        _compare(job, found)
    if settings.next_length and pass_ == "forward":
        for (_, detail), candidate in zip(found, candidates, strict=False):
            if candidate.provider.compiled and candidate.bound is not None:
                detail |= _next_length(job, candidate)
    return found


def _timer(bound: Bound, rotations: int, pass_: str, device: torch.device) -> tuple[measure.Timer, str]:
    return measure.timer(measure.rotated(bound, rotations), pass_, device)


def _right(job: Work, candidate: Candidate, pass_: str) -> bool:
    """A step is right when its output and its gradients are; NaN compares as wrong."""
    assert candidate.errors is not None
    state, gradient = work.tolerances(job.kind, job.shape.steps, candidate.provider.log_sums)
    output, gradients = candidate.errors
    return output <= state and (pass_ == "forward" or gradients <= gradient)


def _fill(row: Row, detail: dict[str, Any], samples: measure.Samples, factor: float, count: int | None) -> None:
    row.median_ms, row.p20_ms, row.p80_ms = (factor * samples.percentile(p) for p in (50, 20, 80))
    row.gbps = None if count is None else count / row.median_ms / 1e6
    detail |= {"method": samples.method, "samples": len(samples.wall), "warm_up": measure.WARM_UP}
    if samples.cpu_median is not None:
        detail["cpu_ms"] = factor * samples.cpu_median


def _compare(job: Work, found: list[tuple[Row, dict[str, Any]]]) -> None:
    """The speed-up over the base, by wall time and by CPU time, and the share of copy bandwidth."""
    name = registry.base(job.op, job.shape.state)
    base, base_detail = next(((r, d) for r, d in found if r.provider == name), (None, {}))
    copy = next((r.median_ms for r, _ in found if r.provider == "copy"), None)
    for row, detail in found:
        if row.median_ms is None:
            continue
        if copy is not None:
            row.copy_fraction = copy / row.median_ms
        if base is not None and base.median_ms is not None and row.provider != "copy":
            row.speedup = base.median_ms / row.median_ms
            if "cpu_ms" in detail:
                detail["cpu_speedup"] = base_detail["cpu_ms"] / detail["cpu_ms"]


def _next_length(job: Work, candidate: Candidate) -> dict[str, Any]:
    """What the compiled function pays for a batch of sequences that are one step shorter, forward."""
    if job.op == "model" or job.shape.steps < 3 or candidate.bound is None:
        return {}
    dim = 2 if job.op == "min_gru" else 1
    shorter = candidate.bound.leaves[0].detach()
    leaves = [
        t.detach().narrow(dim, 0, t.shape[dim] - 1).contiguous() if t.shape[dim:] == shorter.shape[dim:] else t
        for t in candidate.bound.leaves
    ]
    graphs, start = compiled.graphs(), time.perf_counter()
    with torch.no_grad():
        candidate.bound.call(*leaves)
    return {
        "next_length_s": round(time.perf_counter() - start, 2),
        "next_length_graphs": compiled.graphs() - graphs,
    }
