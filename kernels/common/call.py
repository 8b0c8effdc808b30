"""The call of a recurrence as the launchers read it: the one list of its operands."""

from typing import Any, Protocol, Self

from torch import Tensor

# of a layer: input, weight and bias
Needs = tuple[bool, bool, bool]
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]

# of a recurrence: input, weight, h0 and elapsed
RecurrenceNeeds = tuple[bool, bool, bool, bool]
RecurrenceGradients = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]


class Recurrence(Protocol):
    """A record with these attributes; a named tuple is one.

    input      [F, B, T, D] float32, bfloat16 or float16; any strides, copied unless the innermost is 1.
    weight     [F, D, n H] for a cell of n pre-activations, those of the candidate first, or [F, D + 1, n H] with a bias
               as its last row. It is rounded to the dtype of the input where it is loaded; a bias is not, but where
               cuBLAS adds it. None where the input holds the pre-activations already, [F, B, T, n H]; recurrence.py
               alone sees that, so the type leaves it out.
    h0         [F, B, 1, H] or None for zeros; the log space needs it >= 0.
    elapsed    float32, bfloat16 or float16, broadcasts to [F, B, T], or None for 1: the time of each step, see
               gates.py. It is at least 0; a negative one is not looked at, and moves the state away from the candidate.
    flags      uint8, broadcasts to [F, B, T], or None: see flags.py.
    space      "linear", or "log" for a log-space scan: the same function with different rounding.
    need_h     True if the states of all steps are wanted, and not the last one alone.
    """

    @property
    def input(self) -> Tensor: ...
    @property
    def weight(self) -> Tensor: ...
    @property
    def h0(self) -> Tensor | None: ...
    @property
    def elapsed(self) -> Tensor | None: ...
    @property
    def flags(self) -> Tensor | None: ...
    @property
    def space(self) -> str: ...
    @property
    def need_h(self) -> bool: ...

    def _replace(self, *args: Any, **changes: Any) -> Self: ...
