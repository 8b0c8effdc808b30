"""The table of recurrent cells: one row a cell.

A cell is h_t = a_t h_{t-1} + b_t, where a and b come from the pre-activations of the step, which are input @ weight cut
in `num_preacts`. A row says how, for each backend. Everything else (projection, scan, masks, resets, derivatives of
higher order, vmap, compile) is the same for all cells.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Any

from rnam import reference
from rnam.backends.blocks import gates as blocks

__all__ = ["CELLS", "Cell"]


@dataclass(frozen=True)
class Cell:
    """A row of the table.

    name          as `rnam.RNAM(cell=...)` and the operators take it
    num_preacts   pre-activations of a step: the weight has so many times hidden columns
    reference     its coefficients in plain PyTorch, with log a beside a where states are to last
    blocks        its coefficients and slopes on a block in memory of its own, with 1 - a for the same end
    kernels_path  "module:attribute" of its gates and slopes in Triton, which is imported at the first launch
    """

    name: str
    num_preacts: int
    reference: reference.Gates
    blocks: blocks.Gates
    kernels_path: str

    @functools.cached_property
    def kernels(self) -> Any:
        module, _, attribute = self.kernels_path.partition(":")
        return getattr(importlib.import_module(module), attribute)


CELLS = {
    cell.name: cell
    for cell in (
        Cell("mingru", 2, reference.MIN_GRU, blocks.MIN_GRU, "rnam.kernels:MIN_GRU"),
        Cell("minlstm", 3, reference.MIN_LSTM, blocks.MIN_LSTM, "rnam.kernels:MIN_LSTM"),
    )
}
