"""`wide`: models of many terms.

What construction, forward and backward take as the terms grow in number, and the published NAM network (64, 64, 32)
against a loop over the terms and against vmap.
"""

import argparse
import functools

import torch

import rnam
from benchmarks.commands.session import Result, Unit
from benchmarks.protocol import memory, work
from benchmarks.protocol.compare import Settings
from benchmarks.protocol.measure import whole_timer
from benchmarks.protocol.provider import Bound
from benchmarks.protocol.row import time_all
from benchmarks.protocol.shapes import Shape
from benchmarks.providers.registry import compare_all

TERMS, QUICK_TERMS = (1000, 3000, 10_000), (30, 100)
# (terms, rows) of the network: as many numbers with few and with many terms
NETWORKS, QUICK_NETWORKS = ((50, 1024), (500, 128)), ((5, 32),)
WIDTHS = (1, 64, 64, 32, 1)


def units(options: argparse.Namespace) -> dict[str, Unit]:
    return {f"wide/{part.__name__}": functools.partial(part, options) for part in (growth, networks)}


def growth(options: argparse.Namespace) -> Result:
    """NAM with hidden layers of 16 and 16 on 256 rows, RNAM of width 8 and one block on 16 series of 10 steps."""
    device, rows = options.device, []
    kinds = {
        "NAM": (lambda terms: rnam.NAM(terms, (16, 16), device=device), lambda terms: (256, terms)),
        "RNAM": (lambda terms: rnam.RNAM(terms, 8, 1, 1, device=device), lambda terms: (terms, 16, 10, 1)),
    }
    for kind, (make, size) in kinds.items():
        for terms in QUICK_TERMS if options.quick else TERMS:
            model, x = make(terms), torch.randn(size(terms), device=device)
            loss = lambda *_, model=model, x=x: model(x)[0].sum()
            bound = Bound(loss, tuple(model.parameters()), torch.ones((), device=device))
            calls = {"construction": functools.partial(make, terms), "forward": bound.forward, "both": bound.both}
            for pass_, call in calls.items():
                timers = {"rnam": whole_timer(call, device)}
                (row,) = time_all("wide", f"{kind}-{terms}", pass_, timers, options.rounds)
                if pass_ == "both":
                    row.peak_mb = memory.peak_bytes(call, device) / 2**20
                if "cpu_ms" in row.detail:
                    row.detail["note"] = f"{1e3 * row.detail['cpu_ms'] / terms:.1f} µs of CPU time a term"
                rows.append(row)
    return rows, {}


def networks(options: argparse.Namespace) -> Result:
    """The networks of a NAM alone, with the same parameters; faster is over the loop."""
    rows = []
    for terms, batch in QUICK_NETWORKS if options.quick else NETWORKS:
        shape = Shape(f"NAM-{terms}x{batch}", terms, batch, 1, 1, 1, widths=WIDTHS)
        job = work.make("linear", shape, "float32", options.device, loop_terms=terms)
        rows += compare_all(job, Settings(("forward", "both"), options.rounds), ("rnam", "loop", "vmap"), "loop")
    for row in rows:
        row.op = "wide"
    return rows, {}
