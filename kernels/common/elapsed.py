"""The time of a step, dt: how kernels read it and what no time does to the map of the step."""

import triton.language as tl

from .device import device
from .flags import flagged_input, flagged_multiplier


@device
def load_elapsed(ptrs, read):
    """Times of steps [ROWS] as a column of float32 [ROWS, 1]; 0, which makes a step the identity, where a step is not
    `read`: what stands there may be anything.

    The sum over an axis of one keeps tl.dot right: a time in half precision is narrower than the float32 that it meets,
    and the layout of an operand follows the narrowest load (see flags.py).
    """
    dt = tl.load(ptrs, mask=read, other=0.0).to(tl.float32)
    return tl.sum(dt[:, None], 1)[:, None]


@device
def timed_map(a, b, dt, reset, LOG: tl.constexpr):
    """The map (a, b) of a step of time dt, edited by a reset. A step of no time is the identity by selection: whatever
    the pre-activations are, it keeps the state to the bit."""
    return flagged_multiplier(a, dt == 0.0, reset, LOG), flagged_input(b, dt == 0.0, LOG)
