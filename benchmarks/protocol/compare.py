"""One piece of work by its providers: compared with the oracle, then timed, then their memory."""

import functools
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.protocol import measure, memory, work
from benchmarks.protocol.machine import clocks
from benchmarks.protocol.provider import Bound, Provider, Unavailable
from benchmarks.protocol.row import Row, compare_with
from benchmarks.protocol.work import Expected, Work


@dataclass(frozen=True)
class Settings:
    """`left_out` are providers that don't run, and why. A `quick` run takes one sample of what is slow, and asks no
    compiled provider what another length costs."""

    passes: tuple[str, ...]
    rounds: int
    timed: bool = True
    left_out: dict[str, str] = field(default_factory=dict)
    quick: bool = False


@dataclass
class Candidate:
    """A provider at a piece of work: bound and compared, or the reason why not in `detail`."""

    provider: Provider
    bound: Bound | None = None
    errors: tuple[float, float] | None = None
    detail: dict[str, Any] = field(default_factory=dict)


def run(
    job: Work, providers: Iterable[Provider], base: str, expected: Callable[[bool], Expected], settings: Settings
) -> list[Row]:
    """A row of each pass and provider. Speed-ups are over `base`; `expected` gives what is right, with the mask or
    without. The share of copy bandwidth is filled in where the run's anchor is known."""
    torch._dynamo.reset()  # a function of many shapes would pass torch.compile's limit and run uncompiled
    expected = functools.cache(expected)
    candidates = [candidate(job, provider, expected, settings) for provider in providers]
    return [row for pass_ in settings.passes for row in _pass(job, candidates, base, pass_, settings)]


def candidate(job: Work, provider: Provider, expected: Callable[[bool], Expected], settings: Settings) -> Candidate:
    found = Candidate(provider)
    detail = found.detail
    if provider.name in settings.left_out:
        detail["reason"] = settings.left_out[provider.name]
        return found
    want = expected(provider.masked) if provider.checked else None
    graphs, start = _graphs(), time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a compiler, and of operators without a batching rule
            bound = provider.bind(job)
            if "forward" in settings.passes and provider.checked:
                bound.forward()  # so that nothing compiles later
            results = bound.common(bound.both()) if provider.checked else ()
        if provider.compiled:
            detail |= {"compile_s": round(time.perf_counter() - start, 2), "graphs": _graphs() - graphs}
        if want is not None:
            found.errors = work.errors(results, want, bound.terms)
        detail["note"] = "; ".join(filter(None, (bound.note, want.note if want else "")))
        found.bound = bound
    except Unavailable as missing:
        detail["reason"] = str(missing)
    except Exception as error:
        detail["reason"] = failed(error)
    return found


def _graphs() -> int:
    """How many graphs torch.compile has made so far in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def failed(error: Exception) -> str:
    return f"failed: {last_line(error)}"


def last_line(error: Exception) -> str:
    return traceback.format_exception_only(error)[-1].strip().splitlines()[0][:300]


def rows_of(job: Work, candidates: Iterable[Candidate], pass_: str, op: str = "") -> list[Row]:
    """A row of each candidate; one that is not to be timed has the reason."""
    rows = []
    for candidate in candidates:
        name = candidate.provider.name
        row = Row(op or job.op, job.shape.name, job.kind, pass_, name, detail=dict(candidate.detail))
        rows.append(row)
        if candidate.errors is not None:
            output, gradients = candidate.errors
            row.max_error = {"forward": output, "backward": gradients, "both": max(candidate.errors)}[pass_]
            # a step is right when its output and its gradients are; NaN compares as wrong
            state, gradient = work.tolerances(job.kind, job.shape.steps, candidate.provider.log_sums)
            if not (output <= state and (pass_ == "forward" or gradients <= gradient)):
                row.detail["reason"] = "wrong"
    return rows


def _pass(job: Work, candidates: list[Candidate], base: str, pass_: str, settings: Settings) -> list[Row]:
    rows, makers = rows_of(job, candidates, pass_), {}
    copies = measure.copies(sum(map(work.nbytes, job.leaves)), job.device)
    for row, candidate in zip(rows, candidates, strict=True):
        bound = candidate.bound
        if bound is None or "reason" in row.detail:
            continue
        try:
            if pass_ != "backward":
                call = bound.forward if pass_ == "forward" else bound.both
                row.peak_mb = round(memory.peak_bytes(call, job.device) * bound.factor / (1 << 20), 3)
        except Exception as error:
            row.detail["reason"] = failed(error)
            continue
        makers[row.provider] = functools.partial(_timer, bound, copies, pass_, job.device)
    if settings.timed:
        count = job.bytes(pass_)
        graphs, least = _graphs(), (measure.QUICK_SECONDS, measure.QUICK_LEAST) if settings.quick else ()
        samples, failures = measure.each(makers, settings.rounds, job.device, *least)
        now = clocks(job.device)
        factors = {c.provider.name: c.bound.factor for c in candidates if c.bound}
        for row in rows:
            if row.provider in failures:
                row.detail["reason"] = failed(failures[row.provider])
            if row.provider in samples:
                row.add(samples[row.provider], factors.get(row.provider, 1.0))
                row.detail |= {"warm_up": measure.WARM_UP} | ({"clocks": now} if now else {})
                if "graphs" in row.detail:
                    row.detail["recompilations"] = _graphs() - graphs
                if count is not None:
                    row.gbps = count / row.median_ms / 1e6
        compare_with(base, rows)
    if pass_ == "forward" and not settings.quick:
        for row, candidate in zip(rows, candidates, strict=True):
            if candidate.provider.compiled and candidate.bound is not None:
                row.detail |= _next_length(job, candidate.bound)
    return rows


def _timer(bound: Bound, copies: int, pass_: str, device: torch.device) -> tuple[measure.Timer, str]:
    return measure.timer(measure.rotated(bound, copies), pass_, device)


def _next_length(job: Work, bound: Bound) -> dict[str, Any]:
    """What the compiled function pays for a batch of sequences that are one step shorter, forward."""
    if job.op == "model" or job.shape.steps < 3:
        return {}
    dim = 2 if job.op == "min_gru" else 1
    sizes = bound.leaves[0].shape[dim:]
    cut = lambda t: t.detach().narrow(dim, 0, sizes[0] - 1).contiguous()
    leaves = [cut(t) if t.shape[dim:] == sizes else t for t in bound.leaves]
    graphs, start = _graphs(), time.perf_counter()
    with torch.no_grad():
        bound.call(*leaves)
    taken = round(time.perf_counter() - start, 2)
    return {"next_length_s": taken, "next_length_graphs": _graphs() - graphs}
