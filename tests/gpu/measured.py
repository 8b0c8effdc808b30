"""`python -m tests.gpu.measured STAGE FILE`: the stages that measure, with the protocol of the benchmarks.

A provider is compared with float64 before it is timed, and a wrong one gets no time. Beside its time and its share of
the run's copy bandwidth a row has the kernels that it launched, with registers, spills and programs per SM, and the
prediction of a model. The file is a run of the benchmarks: it is written after each unit of work, it has the anchor,
and a run goes on where it ends.
"""

import argparse
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import rnam
from benchmarks.commands import overhead, session
from benchmarks.protocol import compare, measure, shapes, work
from benchmarks.protocol.provider import Bound, Provider, Unavailable, leaves_of
from benchmarks.protocol.row import Row
from benchmarks.protocol.shapes import Shape
from benchmarks.protocol.work import Work
from benchmarks.providers import model, registry
from rnam import functional
from tests.gpu import launchers
from tests.gpu.predictions import predicted
from tests.gpu.shapes import DEVICE, size

ROUNDS = size(3, 1)
# Of the host's time: it is short, and disturbed by whatever else the machine does.
HOST_ROUNDS = size(21, 1)

TF32, FLOAT32, BF16 = "tf32", "float32", "bfloat16"
FORWARD, BACKWARD = ("forward",), ("backward",)

TABLE = Provider("table", registry.REGISTRY["min_gru"]["rnam"].bind)
RNAM, MASKED = (registry.REGISTRY["min_gru"][name] for name in ("rnam", "rnam-masked"))


@dataclass(frozen=True)
class Unit:
    """One piece of work by some providers, of which the first is the base of the ratios."""

    shape: str
    kind: str
    passes: Sequence[str]
    providers: Sequence[Provider]
    op: str = "min_gru"

    def make(self, device: torch.device) -> Work:
        return work.make(self.op, shape(self.shape), self.kind, device)


def shape(name: str) -> Shape:
    """A named shape, tiny in the interpreter."""
    return shapes.fit(shapes.SHAPES[name], 1 << 30, size(None, 1 << 10))


def variant(
    name: str, *, form: str | None = None, registers: int | None = None, forward: bool = False, **changes: int
) -> Provider:
    """The minGRU with other launch numbers in its backward, and with `forward` in both passes."""

    def bind(work: Work) -> Bound:
        config = functools.partial(launchers.config, x=work.leaves[0], weight=work.leaves[1], form=form, **changes)
        try:
            configs = config("forward") if forward else None, config("backward")
        except ValueError as error:
            raise Unavailable(str(error)) from error
        call = functools.partial(launchers.min_gru, forward=configs[0], backward=configs[1])
        limit = {} if registers is None else {"context": functools.partial(launchers.registers, registers)}
        return Bound(call, leaves_of(*work.leaves), work.incoming, **limit)

    return Provider(name, bind)


def _elapsed(work: Work) -> Bound:
    """The gate that knows the time since the last step."""
    if "elapsed" not in inspect.signature(functional.min_gru).parameters:
        raise Unavailable("min_gru has no gate of continuous time")
    elapsed = torch.ones(1, *work.leaves[0].shape[1:3], device=work.device)
    call = lambda x, weight: functional.min_gru(x, weight, elapsed=elapsed)[0]
    return Bound(call, leaves_of(*work.leaves), work.incoming)


# Of ones, it is another function of the weight; nothing to compare it with is here.
ELAPSED = Provider("elapsed", _elapsed, checked=False)

STAGES = tuple(variant(f"{n} stages", stages=n) for n in (2, 3))
STEPS = variant("2 steps", steps=2, forward=True)
FORMS = tuple(variant(form, form=form, forward=True) for form in (launchers.TIME_ROWS, launchers.BATCH_ROWS))

UNITS: dict[str, list[Unit]] = {
    "backward": [
        Unit(name, kind, BACKWARD, (TABLE, *STAGES))
        for name in ("mid", "p12", "electricity", "eeg-long", "notebook")
        for kind in (TF32, BF16)
    ],
    "forms": [
        *(
            Unit(name, kind, FORWARD + BACKWARD, (TABLE, *FORMS))
            for name in ("electricity", "mid")
            for kind in (TF32, BF16)
        ),
        Unit("p12", TF32, BACKWARD, (TABLE, variant("224 registers", registers=224))),
    ],
    "flags": [
        Unit(name, kind, FORWARD + BACKWARD, (RNAM, MASKED))
        for name in ("notebook", "p12", "eeg-long")
        for kind in (TF32, BF16)
    ],
    "long": [
        *(Unit("long", kind, FORWARD + BACKWARD, (RNAM,)) for kind in (TF32, FLOAT32)),
        *(Unit(name, FLOAT32, FORWARD + BACKWARD, (TABLE, STEPS)) for name in ("notebook", "p12", "mid")),
    ],
    "masks": [
        *(Unit(name, TF32, FORWARD + BACKWARD, (RNAM, MASKED)) for name in ("electricity", "mid", "eeg-wide")),
        *(Unit(name, TF32, FORWARD + BACKWARD, (RNAM, ELAPSED)) for name in ("notebook", "p12")),
    ],
    "others": [
        Unit(name, kind, (*FORWARD, "both"), (registry.REGISTRY[op]["rnam"],), op)
        for op, name in (("linear_scan", "scan-8192"), ("log_scan", "scan-8192"), ("linear", "p12"))
        for kind in (FLOAT32, BF16)
    ],
}
# The shapes at which the host's time is taken: one layer's kernels take less than the host there.
HOST_SHAPES = ("mimic-cw", "notebook")


def names() -> list[str]:
    return ["anchor", *UNITS, "host"]


def units(stage: str) -> dict[str, session.Unit]:
    """The work of a stage by name. A row's name begins with that of its stage."""
    if stage == "anchor":
        return {}
    if stage == "host":
        return {f"host/{name}/{FLOAT32}": functools.partial(_host, name) for name in HOST_SHAPES}
    return {f"{stage}/{u.shape}{_op(u)}/{u.kind}": functools.partial(_unit, stage, u) for u in UNITS[stage]}


def _op(unit: Unit) -> str:
    return "" if unit.op == "min_gru" else f" {unit.op}"


def _unit(stage: str, unit: Unit) -> session.Result:
    settings = compare.Settings(tuple(unit.passes), ROUNDS, quick=True)
    with work.precision(unit.kind), rnam.set_backend("triton"):
        job = unit.make(DEVICE)
        expected = functools.partial(registry.expected, job)
        rows = compare.run(job, unit.providers, unit.providers[0].name, expected, settings)
        _describe_kernels(rows, job, unit.providers)
    for row in rows:
        row.op, row.shape = stage, f"{row.shape}{_op(unit)}"
        found = predicted(stage, row.shape, row.dtype, row.pass_, row.provider)
        if found is not None:
            row.detail["predicted_us"] = found
        row.detail["note"] = _note(row)
    return rows, work.describe(job)


def _describe_kernels(rows: Iterable[Row], job: Work, providers: Iterable[Provider]) -> None:
    """Adds to each timed row the kernels that it launches, seen in one call more."""
    named = {provider.name: provider for provider in providers}
    for row in rows:
        if row.median_ms is None:
            continue
        bound = named[row.provider].bind(job)
        call: Callable[[], object] = bound.forward if row.pass_ == "forward" else bound.both
        if row.pass_ == "backward":
            call = functools.partial(bound.backward, bound.graph())
        row.detail["kernels"] = launchers.kernels_of(call)


def _note(row: Row) -> str:
    """The remark of a row: its own, the prediction, and the kernels."""
    parts = [row.detail.get("note", "")]
    if "predicted_us" in row.detail:
        least, most = (f"{us:.0f}" for us in row.detail["predicted_us"])
        parts.append(f"predicted {least} us" if least == most else f"predicted {least} to {most} us")
    for used in row.detail.get("kernels", ()):
        size = f"{used['registers']} registers, {used['spills']} spills, {used['shared'] >> 10} KB"
        parts.append(f"{used['kernel']}: {size}, {used.get('programs_per_sm', '?')} of {used['programs']} an SM")
    return "; ".join(filter(None, parts))


def _host(name: str) -> session.Result:
    """The host's time for a call without a graph: a plain launch, the function, the layer, a model's training step."""
    job = work.make("min_gru", shape(name), FLOAT32, DEVICE)
    layer = RNAM.bind(job), registry.layer(job)
    whole = work.make("model", shape(name), FLOAT32, DEVICE)
    bounds = {("op", "forward"): layer[0], ("layer", "forward"): layer[1]}
    bounds |= {("op", "both"): layer[0], ("layer", "both"): layer[1]}
    timers = {key: overhead.timer(bound, key[1]) for key, bound in bounds.items()}
    step = model.PROVIDERS[0].bind(whole)
    timers["model", "both"] = measure.host_timer(step.both, DEVICE)
    timers["plain launch", "forward"] = measure.host_timer(_plain_launch(), DEVICE)
    methods = {f"{who} {pass_}": f"{measure.HOST_CALLS} calls" for who, pass_ in timers}
    with rnam.set_backend("triton"):
        samples = measure.measure({f"{who} {pass_}": t for (who, pass_), t in timers.items()}, HOST_ROUNDS, methods)
    rows = []
    plain_launch = samples["plain launch forward"].cpu_median
    for who, pass_ in timers:
        row = Row("host", name, FLOAT32, pass_, who)
        row.add(samples[f"{who} {pass_}"])
        row.detail["plain_launches"] = row.detail["cpu_ms"] / plain_launch if plain_launch else None
        row.detail["note"] = "" if not plain_launch else f"{row.detail['plain_launches']:.1f} plain launches"
        rows.append(row)
    return rows, {}


def _plain_launch() -> Callable[[], object]:
    """One launch of a kernel of two pointers."""
    from benchmarks.protocol import copy_kernel

    source, target = torch.zeros(2, copy_kernel.BLOCK, dtype=copy_kernel.WORD, device=DEVICE)
    launch = copy_kernel.copy_kernel[(1,)]
    return lambda: launch(source, target, BLOCK=copy_kernel.BLOCK, num_warps=copy_kernel.WARPS)


def run(stage: str, path: Path) -> int:
    """Does what the file does not have yet of a stage; the exit status."""
    options = argparse.Namespace(json=path, device=DEVICE, quick=True, rounds=ROUNDS, passes=[], provider=[])
    return session.run(units(stage), options, anchored=stage == "anchor")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.measured", description=__doc__)
    parser.add_argument("stage", choices=names())
    parser.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    return run(options.stage, options.file)


if __name__ == "__main__":
    sys.exit(main())
