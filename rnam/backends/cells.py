"""The table of recurrent cells, one row a cell, and the launchers that read it.

A cell is h_t = a_t h_{t-1} + b_t, where a and b come from the pre-activations of the step, which are input @ weight cut
in `num_preacts`. A row says how, for each backend. Everything else (projection, scan, masks, resets, derivatives of
higher order, vmap, compile) is the same for all cells.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Any

import torch

from rnam import reference
from rnam.backends import blocks
from rnam.backends.blocks import gates

__all__ = ["BLOCKS", "CELLS", "KERNELS", "Cell", "Launchers"]


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
    blocks: gates.Gates
    kernels_path: str

    def gates_after(self, times: gates.Times | None, learns: bool = False) -> gates.Gates:
        """Those of the blocks, over times; None is 1."""
        if times is None:
            return self.blocks
        assert self.blocks.after is not None, self.name
        return self.blocks.after(times, learns)

    @functools.cached_property
    def kernels(self) -> Any:
        module, _, attribute = self.kernels_path.partition(":")
        return getattr(importlib.import_module(module), attribute)


CELLS = {
    cell.name: cell
    for cell in (
        Cell("mingru", 2, reference.MIN_GRU, gates.MIN_GRU, "rnam.kernels:MIN_GRU"),
        Cell("minlstm", 3, reference.MIN_LSTM, gates.MIN_LSTM, "rnam.kernels:MIN_LSTM"),
    )
}


@dataclass
class Launchers:
    """`rnam.backends.blocks`, or `rnam.kernels`, imported at the first launch so that `import rnam` needs no triton."""

    column: str  # of the table of cells
    found: Any = None

    @property
    def module(self) -> Any:
        if self.found is not None:
            return self.found
        from rnam import kernels  # a statement: where a compiled call is the first of all, it is traced

        if not torch.compiler.is_compiling():
            self.found = kernels
        return kernels

    def gates(self, cell: str) -> Any:
        """What the launchers take of a cell's row."""
        row = CELLS[cell]
        return row.kernels if self.column == "kernels" else row


KERNELS = Launchers("kernels")
BLOCKS = Launchers("blocks", blocks)
