"""The additive model as loops over rows, terms and steps, written apart from the package: torch's own functions on
vectors, and the parameters by their names in the state dict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.oracle import min_gru_gates

Parameters = Mapping[str, Tensor]


def recurrent(parameters: Parameters, term: int, x: Tensor, blocks: int) -> Tensor:
    """What network `term` gives after each step of x (steps, width), those of one row that it observed;
    (steps, out_dim). A width below that of emb.weight takes its first rows."""

    def linear(v: Tensor, name: str) -> Tensor:
        return v @ parameters[f"{name}.weight"][term, : len(v)] + parameters[f"{name}.bias"][term, 0]

    hidden = parameters["emb.weight"].shape[-1]
    states = [x.new_zeros(hidden) for _ in range(blocks)]
    outputs = []
    for step in x:
        y = linear(step, "emb")
        for n in range(blocks):
            a, b = min_gru_gates(y @ parameters[f"blocks.{n}.gru.to_hidden_and_gate.weight"][term])
            states[n] = a * states[n] + b
            ff = f"blocks.{n}.ff"
            r = F.layer_norm(y + states[n], (hidden,), parameters[f"{ff}.0.weight"], parameters[f"{ff}.0.bias"])
            y = y + linear(linear(r, f"{ff}.1").relu(), f"{ff}.3")
        outputs.append(linear(linear(y, "proj.0").relu(), "proj.2"))
    return torch.stack(outputs) if outputs else x.new_zeros(0, parameters["proj.2.weight"].shape[-1])


def feed_forward(parameters: Parameters, term: int, x: Tensor, activation: str, prefix: str = "networks") -> Tensor:
    """What network `term` of a NAM gives for x (width,); (out_dim,)."""
    last = max(int(name.split(".")[-2]) for name in parameters if name.startswith(f"{prefix}.layers"))
    for n in range(0, last + 1, 2):
        weight, bias = (parameters[f"{prefix}.layers.{n}.{what}"][term] for what in ("weight", "bias"))
        x = x @ weight[: len(x)] + bias[0]
        x = x if n == last else getattr(F, activation)(x)
    return x


def held(outputs: Tensor, observed: Tensor, before: Tensor) -> Tensor:
    """Contributions at every step (seq, out_dim): the latest of `outputs`, one for each observed step; `before`
    (out_dim,) until the first."""
    rows, count = [], 0
    for seen in observed.tolist():
        count += seen
        rows.append(outputs[count - 1] if count else before)
    return torch.stack(rows)


def sequences(
    parameters: Parameters, inputs: Sequence[Tensor], observed: Tensor, blocks: int, before: Tensor | None = None
) -> Tensor:
    """Contributions (terms, batch, seq, out_dim) of terms that read inputs[term] (batch, seq, its width) where observed
    (terms, batch, seq); before a term's first observed step they are before[term], or 0."""
    zero = torch.zeros_like(parameters["proj.2.weight"][0, 0])
    terms = []
    for f, x in enumerate(inputs):
        start = zero if before is None else before[f]
        rows = [
            held(recurrent(parameters, f, own[seen], blocks), seen, start)
            for own, seen in zip(x, observed[f], strict=True)
        ]
        terms.append(torch.stack(rows))
    return torch.stack(terms)


def named(model: torch.nn.Module, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The parameters by name: with their graph, or detached as `dtype`."""
    return {name: p if dtype is None else p.detach().to(dtype) for name, p in model.named_parameters()}


def visit_pattern(times: Tensor, observed: Tensor) -> Tensor:
    """What a timing term reads, (batch, seq, 2), of times (batch, seq) and observed (terms, batch, seq)."""
    terms, batch, seq = observed.shape
    pattern = torch.zeros(batch, seq, 2, dtype=torch.float64)
    for b in range(batch):
        previous = None
        for t in range(seq):
            if observed[:, b, t].any():
                gap = 0.0 if previous is None else max(0.0, float(times[b, t]) - previous)
                pattern[b, t] = torch.tensor(
                    [math.log1p(gap), observed[:, b, t].sum().item() / terms], dtype=torch.float64
                )
                previous = float(times[b, t])
    return pattern
