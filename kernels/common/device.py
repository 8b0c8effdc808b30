"""The decorators of what Triton compiles: `kernel` for a function that is launched, `device` for one that others call.

Triton's language is no Python that a type checker knows, so it looks into neither; the functions around them are
checked as any other. A file with such functions imports triton.language, where the interpreter looks for it.
"""

import inspect
from typing import TYPE_CHECKING

import triton
import triton.language as tl

__all__ = ["device", "kernel"]

if TYPE_CHECKING:
    from typing import no_type_check as device
    from typing import no_type_check as kernel
else:
    device = triton.jit

    def kernel(function):
        """`triton.jit` without a variant for any size: pointers (`*_ptr`) are specialised on their alignment, numbers
        on nothing."""
        parameters = inspect.signature(function).parameters.values()
        numbers = [p.name for p in parameters if p.annotation is not tl.constexpr and not p.name.endswith("_ptr")]
        return triton.jit(function, do_not_specialize=numbers)
