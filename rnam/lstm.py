"""`minLSTM`: one minimal long short-term memory per term."""

from __future__ import annotations

from rnam._cell import Cell
from rnam.functional import min_lstm

__all__ = ["minLSTM"]


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

    parts = 3
    function = staticmethod(min_lstm)
