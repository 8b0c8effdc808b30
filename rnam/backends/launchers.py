"""The launchers of both backends that have operators, behind one interface: tensors in, tensors out, no autograd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rnam.backends import blocks
from rnam.backends.cells import CELLS

__all__ = ["BLOCKS", "KERNELS", "Launchers"]


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
