"""`ensemble`: a training step of ten members in one model, against ten models one after the other."""

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F

import rnam
from benchmarks.commands.session import Result, Unit
from benchmarks.protocol.measure import Timer, whole_timer
from benchmarks.protocol.row import time_all

# An examples/pbcseq of ten members; small batches are where a call's fixed cost counts, large ones where memory does.
MEMBERS = 10
TERMS, STEPS, WIDTH, BLOCKS = 12, 20, 16, 1
BATCHES = (32, 256)
QUICK_BATCHES = (32,)
NOTE = f"{MEMBERS} members, {TERMS} terms, {STEPS} steps, width {WIDTH}; one step of AdamW"


def units(options: argparse.Namespace) -> dict[str, Unit]:
    def unit() -> Result:
        rows = []
        for batch in QUICK_BATCHES if options.quick else BATCHES:
            kinds = {"rnam": (1, MEMBERS), "single models": (MEMBERS, 1)}
            timers = {name: _timer(options.device, batch, *sizes) for name, sizes in kinds.items()}
            rounds = max(options.rounds, 5)
            rows += time_all("ensemble", f"batch-{batch}", "both", timers, rounds, "single models", NOTE)
        return rows, {}

    return {"ensemble": unit}


def _timer(device: torch.device, batch: int, models: int, members: int) -> Timer:
    """Of one training step of all models, each of so many members."""
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(TERMS, batch, STEPS, 1, generator=generator, device=device)
    target = torch.randn(batch, 1, generator=generator, device=device)
    steps = [_step(x, target, members) for _ in range(models)]
    return whole_timer(lambda: [step() for step in steps], device)


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
