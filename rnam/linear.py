"""`Linear`: one linear layer per term, with an activation where one follows."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rnam import _checks
from rnam.functional import ACTIVATIONS, Activation, grouped_linear

__all__ = ["Linear"]


class Linear(nn.Module):
    """One linear layer per term: output[f] = activation(input[f] @ weight[f] + bias[f]).

    Args:
        terms: the number of layers.
        in_dim: the width of the input.
        out_dim: the width of the output.
        bias: whether to add a bias.
        activation: None, "relu", "gelu" or "silu", computed with the layer in one pass over memory.
        device, dtype: where and as what the parameters are made.

    Parameters:
        weight: (terms, in_dim, out_dim), uniform in +-1/sqrt(in_dim), drawn first; that is the range of
            torch.nn.Linear, whose weight is the transpose.
        bias: (terms, 1, out_dim), uniform in the same range, or None.

    Shape:
        input (terms, *, in_dim) with one or more middle dimensions -> (terms, *, out_dim).

    Raises:
        TypeError: a size is no int, bias no bool, dtype none that the layers compute in.
        ValueError: a size is less than 1, activation is none of these.
        For the input: see `rnam.functional.grouped_linear`.

    Example:
        >>> rnam.Linear(3, 4, 5)(torch.randn(3, 8, 10, 4)).shape
        torch.Size([3, 8, 10, 5])
    """

    activation: Activation | None = None  # also of a layer pickled without one

    def __init__(
        self,
        terms: int,
        in_dim: int,
        out_dim: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        activation: Activation | None = None,
    ) -> None:
        terms = _checks.positive_int("terms", terms)
        in_dim = _checks.positive_int("in_dim", in_dim)
        out_dim = _checks.positive_int("out_dim", out_dim)
        _checks.boolean_flag("bias", bias)
        _checks.parameter_dtype("dtype", dtype)
        _checks.one_of("activation", activation, ACTIVATIONS)
        super().__init__()
        self.in_dim = in_dim
        self.out_dim = out_dim
        self.activation = activation
        self.weight = nn.Parameter(torch.empty(terms, in_dim, out_dim, device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(terms, 1, out_dim, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters again, weight first."""
        bound = 1 / math.sqrt(self.in_dim)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return grouped_linear(input, self.weight, self.bias, self.activation)

    def extra_repr(self) -> str:
        terms, in_dim, out_dim = self.weight.shape
        text = f"terms={terms}, in_dim={in_dim}, out_dim={out_dim}, bias={self.bias is not None}"
        return text if self.activation is None else f"{text}, activation={self.activation}"
