"""The operands of launchers: checks, strides as the kernels take them, and copies of tensors where they can't."""

import functools
from typing import Any

import torch

from .call import Recurrence
from .config import LaunchConfig
from .flags import MASKED, WORD

MAX_VECTOR_BYTES = 16


def unit_stride(x: torch.Tensor) -> torch.Tensor:
    """x if its innermost stride is 1, or does not matter, else a contiguous copy."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def contiguous_layers(weight: torch.Tensor) -> torch.Tensor:
    """A weight [F, n, m] whose layers are contiguous, wherever each begins."""
    return weight if weight.stride()[1:] == (weight.shape[2], 1) else weight.contiguous()


def as_sequences(x: torch.Tensor) -> torch.Tensor:
    """[..., T, H] as [N, T, H] with innermost stride 1: a view where the strides allow it, a copy where not."""
    T, H = x.shape[-2:]
    return unit_stride(x.reshape(x.shape[:-2].numel(), T, H))


def as_states(x: torch.Tensor | None) -> torch.Tensor | None:
    """[..., 1, H] as contiguous [N, H]."""
    return None if x is None else x.reshape(x.shape[:-2].numel(), x.shape[-1]).contiguous()


@functools.cache
def _stride_names(name: str, dims: str) -> tuple[str, ...]:
    return tuple(f"stride_{name}_{dim}" for dim in dims)


def stride_arguments(dims: str, unit: int = 1, **tensors: torch.Tensor | None) -> dict[str, int]:
    """Arguments stride_<name>_<dim> of each tensor, in units of `unit` elements, for its first dimensions `dims`.

    They are 0 for None, and where there is only one index: those never reach an address.
    """
    arguments: dict[str, int] = {}
    for name, x in tensors.items():
        names = _stride_names(name, dims)
        if x is None:
            arguments |= dict.fromkeys(names, 0)
        else:
            for key, size, stride in zip(names, x.shape, x.stride(), strict=False):
                arguments[key] = 0 if size == 1 else stride // unit
    return arguments


def vector_unit(*tensors: torch.Tensor | None) -> int:
    """The largest power of two, up to 16 bytes of each tensor, that divides all strides but the innermost.

    The kernels take strides divided by it and multiply it back, which proves the alignment to the compiler: a hint on a
    kernel argument (tl.multiple_of) is lost, and 128-bit loads fall apart into 32-bit ones.
    """
    given = [x for x in tensors if x is not None]
    unit: int = MAX_VECTOR_BYTES // max(x.element_size() for x in given)
    for x in given:
        for size, stride in zip(x.shape[:-1], x.stride(), strict=False):
            while size != 1 and stride % unit:
                unit //= 2
    return unit


def packed(x: torch.Tensor | None) -> bool:
    """True if consecutive time steps [..., T, N] lie side by side, so that the kernel knows the stride of T."""
    return x is None or x.shape[-2] == 1 or x.stride(-2) == x.shape[-1]


def is_log(space: str) -> bool:
    """True if the states of a call are computed as logarithms; raises for a space that does not exist."""
    if space not in ("linear", "log"):
        raise ValueError(f"space: expected 'linear' or 'log', got {space!r}")
    return space == "log"


def flag_words(flags: torch.Tensor | None, F: int, B: int, T: int) -> torch.Tensor | None:
    """Flags that broadcast to [F, B, T] as words int32 [F or 1, B or 1, ceil(T / 4)] with an innermost stride of 1.

    A view, unless the steps of a row are not side by side or no whole words: then a copy, in which the steps past the
    end are masked. Raises unless flags are bytes of such a shape.
    """
    if flags is None:
        return None
    if flags.dtype != torch.uint8:
        raise TypeError(f"flags: expected uint8, got {flags.dtype}")
    if flags.ndim != 3 or any(n not in (1, m) for n, m in zip(flags.shape, (F, B, T), strict=True)):
        raise ValueError(f"flags: expected a shape that broadcasts to {(F, B, T)}, got {tuple(flags.shape)}")
    whole = flags.shape[2] == T and T % WORD == 0 and flags.stride(2) == 1
    if not whole or any(n % WORD for n in (*flags.stride()[:2], flags.data_ptr())):
        rows = flags.new_full((*flags.shape[:2], -(-T // WORD) * WORD), MASKED)
        rows[..., :T] = flags
        flags = rows
    return flags.view(torch.int32)


def readable(call: Recurrence, weight: torch.Tensor) -> Recurrence:
    """The call with copies of what the kernels cannot read as it is, and with `weight` in the place of its own: x needs
    an innermost stride of 1, h0 is contiguous."""
    h0 = None if call.h0 is None else call.h0.contiguous()
    return call._replace(input=unit_stride(call.input), weight=weight, h0=h0)


def shared_operands(
    call: Recurrence, precision: str, config: LaunchConfig, dh: torch.Tensor | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arguments, constants) of a `readable` call, and of dh with an innermost stride of 1."""
    x, flags = call.input, call.flags
    (F, B, T, D), H = x.shape, call.weight.shape[2] // 2
    unit = vector_unit(x, dh)
    words = flag_words(flags, F, B, T)
    arguments = dict(
        x_ptr=x, w_ptr=call.weight, flags_ptr=words, B=B, T=T,
        **stride_arguments("fbt", unit, x=x), **stride_arguments("fb", flags=words),
    )  # fmt: skip
    constants = dict(
        D=D, H=H, HAS_FLAGS=flags is not None, EVEN=config.divides(B, T), PACKED=packed(x) and packed(dh), UNIT=unit,
        PRECISION=precision, **config.tiles(D, H),
    )  # fmt: skip
    return arguments, constants
