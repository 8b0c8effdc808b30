"""The launchers of both backends that have operators, behind one interface: tensors in, tensors out, no autograd."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Any

from rnam.backends.cells import CELLS

__all__ = ["BLOCKS", "KERNELS", "Launchers"]


@dataclass(frozen=True)
class Launchers:
    """`rnam.kernels` or `rnam.backends.blocks`, imported at the first launch, so that `import rnam` needs no triton."""

    package: str
    column: str  # of the table of cells

    @functools.cached_property
    def module(self) -> Any:
        return importlib.import_module(self.package)

    def gates(self, cell: str) -> Any:
        """What the launchers take of a cell's row."""
        row = CELLS[cell]
        return row.kernels if self.column == "kernels" else row


KERNELS = Launchers("rnam.kernels", "kernels")
BLOCKS = Launchers("rnam.backends.blocks", "blocks")
