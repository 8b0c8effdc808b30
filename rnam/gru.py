"""`minGRU` and `minLSTM`: one minimal recurrent unit per term."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from rnam import _checks
from rnam._untouched import known, untouched_linear, watched
from rnam.backends.calls import Embedding, Recurrence
from rnam.backends.cells import CELLS
from rnam.functional import grouped_linear, recurrence, recurrence_projected
from rnam.linear import Linear

__all__ = ["Cell", "minGRU", "minLSTM"]


class Cell(nn.Module):
    """One recurrent unit per term: parameters, and one functional call. A subclass names its row of the table.

    cell        a name of the table in `rnam.backends.cells`
    projects    whether one function computes this cell and `to_out`
    gate_signs  by what the k of `timescales` is multiplied in the bias of each pre-activation after the first; None
                where the cell has no time scales
    """

    cell: ClassVar[str]
    projects: ClassVar[bool] = False
    gate_signs: ClassVar[tuple[float, ...] | None] = None
    timescales: tuple[float, float] | None = None  # also of a layer pickled without

    def __init__(
        self,
        terms: int,
        dim: int,
        expansion_factor: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = False,
        timescales: tuple[float, float] | None = None,
    ) -> None:
        terms, dim = _checks.positive_int("terms", terms), _checks.positive_int("dim", dim)
        hidden = int(dim * _checks.positive_number("expansion_factor", expansion_factor))
        if hidden < 1:
            raise ValueError(
                f"expansion_factor must give a state of at least 1, got int({dim} * {expansion_factor}) = {hidden}"
            )
        _checks.boolean_flag("bias", bias)
        timescales = _checks.timescales("timescales", timescales)
        if timescales is not None and self.gate_signs is None:
            raise ValueError(f"timescales must be None for the cell {self.cell!r}, got {timescales}")
        super().__init__()
        self.timescales = timescales
        columns = CELLS[self.cell].num_preacts * hidden
        bias = bias or timescales is not None
        self.to_hidden_and_gate = Linear(terms, dim, columns, bias=bias, device=device, dtype=dtype)
        self.to_out = (
            nn.Identity()
            if expansion_factor == 1
            else Linear(terms, hidden, dim, bias=False, device=device, dtype=dtype)
        )
        self.start_gates()

    def reset_parameters(self) -> None:
        """Draw the parameters again, in the order of construction."""
        for layer in self.children():
            if isinstance(layer, Linear):
                layer.reset_parameters()
        self.start_gates()

    def start_gates(self) -> None:
        """Set the part of the bias that is the gates'."""
        project = self.to_hidden_and_gate
        if not isinstance(project, Linear) or project.bias is None:
            return
        with torch.no_grad():
            _, *gates = project.bias.chunk(CELLS[self.cell].num_preacts, dim=2)
            for n, gate in enumerate(gates):
                gate.zero_()
                if self.timescales is not None and self.gate_signs is not None:
                    k = _gate_of_timescales(*self.timescales, gate.shape[2])
                    gate += self.gate_signs[n] * k.clamp(max=torch.finfo(gate.dtype).max).to(gate)

    def forward(
        self,
        input: Tensor,
        prev_hidden: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        need_output: bool = True,
        embedding: Embedding | None = None,
        elapsed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run over a sequence, from a state.

        Args:
            input: (terms, batch, seq, dim); with `embedding` (terms, batch, seq, in_dim).
            prev_hidden: the state before the first step, (terms, batch, 1, hidden), or None for 0.
            mask, reset: bool, broadcastable to (terms, batch, seq); see `rnam.functional.min_gru`.
            need_output: False where next_hidden is all that is read; output then has no steps.
            embedding: weight and bias of a linear layer that the input goes through first; see there.
            elapsed: the time since the step before, broadcastable to (terms, batch, seq), or None for 1; see there.

        Returns:
            output: (terms, batch, seq, dim), or (terms, batch, 0, dim).
            next_hidden: (terms, batch, 1, hidden), the state after the last step, float32 for half precision.

        Raises:
            TypeError, ValueError: as `rnam.functional.min_gru`.
        """
        project, out = self.to_hidden_and_gate, self.to_out
        weight: Tensor | None = None
        bias: Tensor | None = None
        if not watched() and untouched_linear(project):
            own = project._parameters  # not by the module, which takes longer
            weight, bias = own["weight"], own["bias"]
        else:
            if embedding is not None:
                input, embedding = grouped_linear(input, *embedding), None
            if mask is not None:
                _checks.boolean("mask", mask)
                input = torch.where(mask[..., None], input, 0)  # 0 * NaN would reach the gradient of a weight
            input = project(input)
        call = Recurrence(
            input, weight, prev_hidden, elapsed, cell=self.cell, need_h=need_output, embedding=embedding, bias=bias
        )
        fused = self.projects and need_output and weight is not None and embedding is None
        if fused and untouched_linear(out, bias=False):
            return recurrence_projected(call, out.weight, mask, reset, h0_name="prev_hidden")
        h, next_hidden = recurrence(call, mask, reset, h0_name="prev_hidden")
        return out(h), next_hidden

    def extra_repr(self) -> str:
        if not isinstance(self.to_hidden_and_gate, Linear):
            return ""  # it was replaced, and the layer in its place says what it is
        terms, dim, columns = self.to_hidden_and_gate.weight.shape
        scales = "" if self.timescales is None else f", timescales={self.timescales}"
        return f"terms={terms}, dim={dim}, hidden={columns // CELLS[self.cell].num_preacts}{scales}"


def _gate_of_timescales(shortest: float, longest: float, hidden: int) -> Tensor:
    """k = log(expm1(1 / tau)), float64, so that a state decays as exp(-t / tau) where the input is 0; tau spaced in
    logarithms from the shortest to the longest, or their geometric mean for a single channel."""
    first, last = math.log(shortest), math.log(longest)
    if hidden == 1:
        first = last = (first + last) / 2
    rate = torch.linspace(first, last, hidden, dtype=torch.float64).neg().exp()
    # log(expm1(r)) = r + log(1 - exp(-r)), which overflows for no r and keeps the digits of a small one
    return rate + torch.log(-torch.expm1(-rate))


@known
class minGRU(Cell):
    """One minGRU per term (arXiv 2410.01201). The recurrence is in `rnam.functional.min_gru`.

    Args:
        terms: the number of units.
        dim: the width of the input and of the output.
        expansion_factor: the state is int(dim * expansion_factor) wide; when it is not 1, `to_out` maps
            the state back to dim.
        device, dtype: where and as what the parameters are made.
        bias: whether u and k have a bias. Without one the gates start near z = 1/2, a memory of 1.4 steps.
        timescales: None, or a pair (shortest, longest) of times, in the unit of `elapsed` (in steps, without it). Then
            there is a bias, and a channel starts with the memory exp(-t / tau) where the input is 0: its gate starts at
            k = log(exp(1 / tau) - 1), with tau spaced in logarithms from the shortest to the longest. A single channel
            takes their geometric mean. This is the chrono initialisation (arXiv 1804.11188), there of random tau and
            with k = -log(tau - 1), its form for whole steps.

    Parameters:
        to_hidden_and_gate.weight: (terms, dim, 2 * hidden), the hidden half first.
        to_hidden_and_gate.bias: (terms, 1, 2 * hidden) with a bias; else None. The hidden half starts as that of a
            `Linear`, and the gate half at 0 or at `timescales`.
        to_out.weight: (terms, hidden, dim) when expansion_factor != 1; else `to_out` is the identity.

    Raises:
        TypeError: a size is no int, expansion_factor no number, bias no bool, timescales no pair of numbers, dtype none
            that the layers compute in.
        ValueError: a size is less than 1, expansion_factor gives a state of less than 1, or the timescales are not
            finite, greater than 0 and in order.

    Example:
        >>> layer = rnam.minGRU(3, 4)
        >>> output, state = layer(torch.randn(3, 8, 10, 4))
        >>> output, state = layer(torch.randn(3, 8, 1, 4), state)  # one step more
        >>> output.shape, state.shape
        (torch.Size([3, 8, 1, 4]), torch.Size([3, 8, 1, 4]))
        >>> layer = rnam.minGRU(3, 4, timescales=(1, 365))  # memories from a day to a year
        >>> output, state = layer(torch.randn(3, 8, 10, 4), elapsed=torch.rand(8, 10))
    """

    cell = "mingru"
    projects = True
    gate_signs = (1.0,)


@known
class minLSTM(Cell):
    """One minLSTM per term (arXiv 2410.01201, section 3.2). The recurrence is in `rnam.functional.min_lstm`.

    Args:
        terms, dim, expansion_factor, device, dtype, bias: as for `minGRU`, and so are the calls, states and errors.
        timescales: as for `minGRU`, by the normalised gate i / (f + i): its k is log sigmoid(k_i) - log sigmoid(k_f),
            which k_i = k and k_f = -k give exactly.

    Parameters:
        to_hidden_and_gate.weight: (terms, dim, 3 * hidden), the hidden, the forget and the input third.
        to_hidden_and_gate.bias: (terms, 1, 3 * hidden) with a bias; else None. The hidden third starts as that of a
            `Linear`, and the others at 0 or at `timescales`.
        to_out.weight: (terms, hidden, dim) when expansion_factor != 1; else `to_out` is the identity.

    Example:
        >>> layer = rnam.minLSTM(3, 4)
        >>> output, state = layer(torch.randn(3, 8, 10, 4))
        >>> output, state = layer(torch.randn(3, 8, 1, 4), state)  # one step more
        >>> output.shape, state.shape
        (torch.Size([3, 8, 1, 4]), torch.Size([3, 8, 1, 4]))
    """

    cell = "minlstm"
    gate_signs = (-1.0, 1.0)
