"""The FLOPs of the operators for torch's counter: those of the matrix products in their formulas, as it counts its own.

A backend may compute a product again in the backward, and that is not counted. torch's counter imports triton, so the
formulas reach it when a call is first counted, and not when this package is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

__all__ = ["FORMULAS", "teach"]

FORMULAS: dict[Any, Callable[..., int]] = {}  # by op


def teach() -> None:
    """Give the formulas to torch's counter, if it was imported, and to the counters that are counting."""
    counter = sys.modules.get("torch.utils.flop_counter")
    if counter is None:
        return
    counting = (getattr(mode, "counter", None) for mode in _get_current_dispatch_mode_stack())
    for known in (counter.flop_registry, *(getattr(c, "flop_registry", None) for c in counting)):
        if known is not None:
            for op, formula in FORMULAS.items():
                known.setdefault(op, formula)
