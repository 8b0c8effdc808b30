"""A training step of an ensemble in one model, against as many models one after the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

import rnam
from benchmarks.protocol import measure
from benchmarks.reports.run import Row

# An examples/pbcseq of ten members; small batches are where a call's fixed cost counts, large ones where memory does.
MEMBERS = 10
TERMS, STEPS, WIDTH, BLOCKS = 12, 20, 16, 1
BATCHES = (32, 256)
QUICK_BATCHES = (32,)


def ensemble(device: torch.device, rounds: int, quick: bool) -> tuple[list[Row], dict[str, dict]]:
    """Rows, and their details; faster is that of the single models over that of `members`."""
    rows, details = [], {}
    for batch in QUICK_BATCHES if quick else BATCHES:
        timers = {"rnam": _timer(device, batch, 1, MEMBERS), "single models": _timer(device, batch, MEMBERS, 1)}
        samples = measure.measure(timers, max(rounds, 5), dict.fromkeys(timers, "calls"))
        base = samples["single models"]
        for name, sample in samples.items():
            median, p20, p80 = (sample.percentile(p) for p in (50, 20, 80))
            speedup = base.percentile(50) / median
            row = Row("ensemble", f"batch-{batch}", "float32", "both", name, median, p20, p80, speedup=speedup)
            rows.append(row)
            cpu, of_base = sample.cpu_median, base.cpu_median
            note = f"{MEMBERS} members, {TERMS} terms, {STEPS} steps, width {WIDTH}; one step of AdamW"
            details[row.key] = {"method": sample.method, "note": note}
            if cpu and of_base:
                details[row.key] |= {"cpu_ms": cpu, "cpu_speedup": of_base / cpu}
    return rows, details


def _timer(device: torch.device, batch: int, models: int, members: int) -> measure.Timer:
    """Of one training step of all models, each of so many members."""
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(TERMS, batch, STEPS, 1, generator=generator, device=device)
    target = torch.randn(batch, 1, generator=generator, device=device)
    steps = [_step(x, target, members) for _ in range(models)]

    def call() -> None:
        for step in steps:
            step()

    return measure.whole_timer(call, device)


def _step(x: torch.Tensor, target: torch.Tensor, members: int) -> Callable[[], None]:
    """A training step: the members' losses are summed, so that each learns as it would alone."""
    model = rnam.RNAM(TERMS, WIDTH, 1, BLOCKS, members=members, device=x.device)
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        prediction, _ = model(x, return_members=True) if members > 1 else model(x)
        loss = F.mse_loss(prediction, target.expand_as(prediction)) * members
        loss.backward()
        optimizer.step()

    return step
