"""`minGRU`: one minimal gated recurrent unit per term."""

from __future__ import annotations

from rnam._cell import Cell
from rnam.functional import min_gru, min_gru_projected

__all__ = ["minGRU"]


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

    parts = 2
    function = staticmethod(min_gru)
    projected = staticmethod(min_gru_projected)
