"""`wide`: models of many terms.

What construction, forward and backward take as the terms grow in number, and the published NAM network (64, 64, 32)
against a loop over torch.nn.Sequential and against vmap.
"""

from __future__ import annotations

import argparse
import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import rnam
from benchmarks.commands.session import Result, Unit
from benchmarks.protocol import memory
from benchmarks.protocol.measure import whole_timer
from benchmarks.protocol.row import time_all

TERMS, QUICK_TERMS = (1000, 3000, 10_000), (30, 100)
# (terms, rows) of the network: as many numbers with few and with many terms
NETWORKS, QUICK_NETWORKS = ((50, 1024), (500, 128)), ((5, 32),)
HIDDEN = (64, 64, 32)

Call = Callable[[], Any]


def units(options: argparse.Namespace) -> dict[str, Unit]:
    return {f"wide/{part.__name__}": functools.partial(part, options) for part in (growth, networks)}


def growth(options: argparse.Namespace) -> Result:
    """NAM with hidden layers of 16 and 16 on 256 rows, RNAM of width 8 and one block on 16 series of 10 steps."""
    device = options.device
    kinds = {
        "NAM": (lambda terms: rnam.NAM(terms, (16, 16), device=device), lambda terms: (256, terms)),
        "RNAM": (lambda terms: rnam.RNAM(terms, 8, 1, 1, device=device), lambda terms: (terms, 16, 10, 1)),
    }
    rows = []
    for kind, (make, size) in kinds.items():
        for terms in QUICK_TERMS if options.quick else TERMS:
            model, x = make(terms), torch.randn(size(terms), device=device)
            calls = _passes(functools.partial(_output, model, x, 0), model)
            for pass_, call in {"construction": functools.partial(make, terms), **calls}.items():
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
    device, rows = options.device, []
    for terms, batch in QUICK_NETWORKS if options.quick else NETWORKS:
        x = torch.randn(batch, terms, device=device)
        ours = rnam.NAM(terms, HIDDEN, device=device)
        each = [_sequential(ours, term) for term in range(terms)]
        forms = {
            "rnam": (functools.partial(_output, ours, x, 1), ours),
            "loop": (functools.partial(_loop, each, x), nn.ModuleList(each)),
            "vmap": _vmap(each, x),
        }
        for name, (call, _) in forms.items():
            worst = float((call() - forms["loop"][0]()).abs().max().detach())
            if not worst <= 1e-4:
                raise RuntimeError(f"{name} differs from the loop by {worst}")
        for pass_ in ("forward", "both"):
            timers = {name: whole_timer(_passes(*form)[pass_], device) for name, form in forms.items()}
            note = f"{terms} terms, {batch} rows"
            rows += time_all("wide", f"NAM-{terms}x{batch}", pass_, timers, options.rounds, "loop", note)
    return rows, {}


def _passes(call: Callable[[], Tensor], model: nn.Module) -> dict[str, Call]:
    def forward() -> Tensor:
        with torch.no_grad():
            return call()

    def both() -> None:
        model.zero_grad()
        call().sum().backward()

    return {"forward": forward, "both": both}


def _sequential(model: rnam.NAM, term: int) -> nn.Sequential:
    """One term's network as torch writes it."""
    parts: list[nn.Module] = []
    for layer in model.networks.layers:
        if isinstance(layer, rnam.Linear):
            weight, bias = layer.weight[term].detach(), layer.bias[term, 0].detach()
            part = nn.Linear(*weight.shape, device=weight.device)
            with torch.no_grad():
                part.weight.copy_(weight.T)
                part.bias.copy_(bias)
            parts += [part, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def _output(model: nn.Module, x: Tensor, number: int) -> Tensor:
    """The prediction (0) or the contributions (1)."""
    output: Tensor = model(x)[number]
    return output


def _loop(each: list[nn.Sequential], x: Tensor) -> Tensor:
    return torch.stack([net(x[:, term, None]) for term, net in enumerate(each)])


def _vmap(each: list[nn.Sequential], x: Tensor) -> tuple[Callable[[], Tensor], nn.Module]:
    parameters, buffers = torch.func.stack_module_state(each)  # type: ignore[arg-type]
    base, held = copy.deepcopy(each[0]).to("meta"), nn.Module()
    for name, value in parameters.items():
        held.register_parameter(name.replace(".", "_"), nn.Parameter(value.detach().clone()))
    own = {name: held.get_parameter(name.replace(".", "_")) for name in parameters}

    def one(p: dict[str, Tensor], column: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(base, (p, buffers), (column[:, None],))
        return result

    return (lambda: torch.vmap(one)(own, x.T)), held
