"""`minGRU`: one minimal gated recurrent unit per term."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rnam import _checks
from rnam.functional import min_gru
from rnam.linear import Linear

__all__ = ["minGRU"]


class minGRU(nn.Module):
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
        self.to_hidden_and_gate = Linear(terms, dim, 2 * hidden, bias=False, device=device, dtype=dtype)
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
    ) -> tuple[Tensor, Tensor]:
        """Run over a sequence, from a state.

        Args:
            input: (terms, batch, seq, dim).
            prev_hidden: the state before the first step, (terms, batch, 1, hidden), or None for 0.
            mask, reset: bool, broadcastable to (terms, batch, seq); see `rnam.functional.min_gru`.

        Returns:
            output: (terms, batch, seq, dim).
            next_hidden: (terms, batch, 1, hidden), the state after the last step, float32 for halves.

        Raises:
            TypeError, ValueError: as `rnam.functional.min_gru`.
        """
        if prev_hidden is not None:
            _checks.floating("input", input)
            _checks.rank("input", input, "terms, batch, seq, dim")
            hidden = self.to_hidden_and_gate.weight.shape[2] // 2
            expected = (*input.shape[:2], 1, hidden)
            _checks.state("prev_hidden", prev_hidden, "terms, batch, 1, hidden", expected, "input", input)
        h, next_hidden = min_gru(input, self.to_hidden_and_gate.weight, prev_hidden, mask=mask, reset=reset)
        return self.to_out(h), next_hidden

    def extra_repr(self) -> str:
        terms, dim, columns = self.to_hidden_and_gate.weight.shape
        return f"terms={terms}, dim={dim}, hidden={columns // 2}"
