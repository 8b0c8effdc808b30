"""`minGRU` and `minLSTM`: one minimal recurrent unit per term."""

from __future__ import annotations

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
    """One recurrent unit per term: parameters, and one functional call. A subclass names its row of the table."""

    cell: ClassVar[str]
    projects: ClassVar[bool] = False  # one function computes this cell and `to_out`

    def __init__(
        self,
        terms: int,
        dim: int,
        expansion_factor: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        terms, dim = _checks.positive_int("terms", terms), _checks.positive_int("dim", dim)
        hidden = int(dim * _checks.positive_number("expansion_factor", expansion_factor))
        if hidden < 1:
            raise ValueError(
                f"expansion_factor must give a state of at least 1, got int({dim} * {expansion_factor}) = {hidden}"
            )
        super().__init__()
        columns = CELLS[self.cell].num_preacts * hidden
        self.to_hidden_and_gate = Linear(terms, dim, columns, bias=False, device=device, dtype=dtype)
        self.to_out = (
            nn.Identity()
            if expansion_factor == 1
            else Linear(terms, hidden, dim, bias=False, device=device, dtype=dtype)
        )

    def reset_parameters(self) -> None:
        """Draw the parameters again, in the order of construction."""
        for layer in self.children():
            if isinstance(layer, Linear):
                layer.reset_parameters()

    def forward(
        self,
        input: Tensor,
        prev_hidden: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        need_output: bool = True,
        embedding: Embedding | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run over a sequence, from a state.

        Args:
            input: (terms, batch, seq, dim); with `embedding` (terms, batch, seq, in_dim).
            prev_hidden: the state before the first step, (terms, batch, 1, hidden), or None for 0.
            mask, reset: bool, broadcastable to (terms, batch, seq); see `rnam.functional.min_gru`.
            need_output: False where next_hidden is all that is read; output then has no steps.
            embedding: weight and bias of a linear layer that the input goes through first; see there.

        Returns:
            output: (terms, batch, seq, dim), or (terms, batch, 0, dim).
            next_hidden: (terms, batch, 1, hidden), the state after the last step, float32 for half precision.

        Raises:
            TypeError, ValueError: as `rnam.functional.min_gru`.
        """
        project, out = self.to_hidden_and_gate, self.to_out
        weight: Tensor | None = None
        if not watched() and untouched_linear(project, bias=False):
            weight = project.weight
        else:
            if embedding is not None:
                input, embedding = grouped_linear(input, *embedding), None
            if mask is not None:
                _checks.boolean("mask", mask)
                input = torch.where(mask[..., None], input, 0)  # 0 * NaN would reach the gradient of a weight
            input = project(input)
        call = Recurrence(input, weight, prev_hidden, cell=self.cell, need_h=need_output, embedding=embedding)
        fused = self.projects and need_output and weight is not None and embedding is None
        if fused and untouched_linear(out, bias=False):
            return recurrence_projected(call, out.weight, mask, reset, h0_name="prev_hidden")
        h, next_hidden = recurrence(call, mask, reset, h0_name="prev_hidden")
        return out(h), next_hidden

    def extra_repr(self) -> str:
        if not isinstance(self.to_hidden_and_gate, Linear):
            return ""  # it was replaced, and the layer in its place says what it is
        terms, dim, columns = self.to_hidden_and_gate.weight.shape
        return f"terms={terms}, dim={dim}, hidden={columns // CELLS[self.cell].num_preacts}"


@known
class minGRU(Cell):
    """One minGRU per term (arXiv 2410.01201). The recurrence is in `rnam.functional.min_gru`.

    Args:
        terms: the number of units.
        dim: the width of the input and of the output.
        expansion_factor: the state is int(dim * expansion_factor) wide; when it is not 1, `to_out` maps
            the state back to dim.
        device, dtype: where and as what the parameters are made.

    Parameters:
        to_hidden_and_gate.weight: (terms, dim, 2 * hidden), the hidden half first; no bias.
        to_out.weight: (terms, hidden, dim) when expansion_factor != 1; else `to_out` is the identity.

    Raises:
        TypeError: a size is no int, expansion_factor no number, dtype none that the layers compute in.
        ValueError: a size is less than 1, or expansion_factor gives a state of less than 1.

    Example:
        >>> layer = rnam.minGRU(3, 4)
        >>> output, state = layer(torch.randn(3, 8, 10, 4))
        >>> output, state = layer(torch.randn(3, 8, 1, 4), state)  # one step more
        >>> output.shape, state.shape
        (torch.Size([3, 8, 1, 4]), torch.Size([3, 8, 1, 4]))
    """

    cell = "mingru"
    projects = True


@known
class minLSTM(Cell):
    """One minLSTM per term (arXiv 2410.01201, section 3.2). The recurrence is in `rnam.functional.min_lstm`.

    Args:
        terms, dim, expansion_factor, device, dtype: as for `minGRU`, and so are the calls, states and errors.

    Parameters:
        to_hidden_and_gate.weight: (terms, dim, 3 * hidden), the hidden, the forget and the input third; no bias.
        to_out.weight: (terms, hidden, dim) when expansion_factor != 1; else `to_out` is the identity.

    Example:
        >>> layer = rnam.minLSTM(3, 4)
        >>> output, state = layer(torch.randn(3, 8, 10, 4))
        >>> output, state = layer(torch.randn(3, 8, 1, 4), state)  # one step more
        >>> output.shape, state.shape
        (torch.Size([3, 8, 1, 4]), torch.Size([3, 8, 1, 4]))
    """

    cell = "minlstm"
