"""What minGRU and minLSTM share: parameters, and one functional call."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from rnam import _checks
from rnam.linear import Linear

__all__ = ["Cell"]


def has_hooks(module: nn.Module) -> bool:
    """Whether a hook waits for the call of a module."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks)


class Cell(nn.Module):
    """One recurrent unit per term, whose projection has `parts` times as many columns as the state is wide."""

    parts: ClassVar[int]
    function: ClassVar[Callable[..., tuple[Tensor, Tensor]]]
    projected: ClassVar[Callable[..., tuple[Tensor, Tensor]] | None] = None  # function and `to_out` in one

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
        self.to_hidden_and_gate = Linear(terms, dim, self.parts * hidden, bias=False, device=device, dtype=dtype)
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
        embedding: tuple[Tensor, Tensor] | None = None,
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
            next_hidden: (terms, batch, 1, hidden), the state after the last step, float32 for halves.

        Raises:
            TypeError, ValueError: as `rnam.functional.min_gru`.
        """
        if prev_hidden is not None:
            _checks.floating("input", input)
            _checks.rank("input", input, "terms, batch, seq, dim")
            hidden = self.to_hidden_and_gate.weight.shape[2] // self.parts
            expected = (*input.shape[:2], 1, hidden)
            _checks.state("prev_hidden", prev_hidden, "terms, batch, 1, hidden", expected, "input", input)
        weight = self.to_hidden_and_gate.weight
        projected = type(self).projected
        if projected is not None and need_output and embedding is None and self._projects_plainly():
            return projected(input, weight, self.to_out.weight, prev_hidden, mask=mask, reset=reset)
        h, next_hidden = type(self).function(
            input, weight, prev_hidden, mask=mask, reset=reset, need_h=need_output, embedding=embedding
        )
        return self.to_out(h), next_hidden

    def _projects_plainly(self) -> bool:
        """Whether `to_out` is the layer that the constructor made, and no hook waits for what it reads or gives."""
        out = self.to_out
        plain = type(out) is Linear and out.bias is None and out.activation is None
        return plain and not has_hooks(out)

    def extra_repr(self) -> str:
        terms, dim, columns = self.to_hidden_and_gate.weight.shape
        return f"terms={terms}, dim={dim}, hidden={columns // self.parts}"
