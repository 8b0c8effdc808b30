"""The operands of launchers: checks, strides as the kernels take them, and copies of tensors where they can't."""

import functools
from typing import Any

import torch

from .call import Recurrence
from .config import LaunchConfig
from .flags import MASKED, WORD
from .launch import ALIGNMENT, DTYPES

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


def has_bias(call: Recurrence) -> bool:
    """True if the last row of the weight of a call is a bias; raises where it has neither D nor D + 1 rows."""
    D, rows = call.input.shape[3], call.weight.shape[1]
    if rows not in (D, D + 1):
        raise ValueError(f"weight: expected the {D} rows of x, or one more for a bias, got {rows}")
    return rows == D + 1


def step_arguments(call: Recurrence, F: int, B: int, T: int) -> dict[str, Any]:
    """Arguments of the elapsed times and of the flags of a call, with their strides, 0 where they broadcast.

    Raises unless flags are bytes and elapsed times numbers that kernels read, and both broadcast to [F, B, T].
    """
    elapsed, flags = call.elapsed, call.flags
    if flags is not None and flags.dtype != torch.uint8:
        raise TypeError(f"flags: expected uint8, got {flags.dtype}")
    if elapsed is not None and elapsed.dtype not in DTYPES:
        raise TypeError(f"elapsed: expected float32, bfloat16 or float16, got {elapsed.dtype}")
    for name, x in (("elapsed", elapsed), ("flags", flags)):
        if x is None:
            continue
        if x.ndim != 3 or any(n not in (1, m) for n, m in zip(x.shape, (F, B, T), strict=True)):
            raise ValueError(f"{name}: expected a shape that broadcasts to {(F, B, T)}, got {tuple(x.shape)}")
    words = None if flags is None else flag_words(flags, T)
    pointers = dict(elapsed_ptr=elapsed, flags_ptr=words)
    return pointers | stride_arguments("fbt", elapsed=elapsed) | stride_arguments("fb", flags=words)


def flag_words(flags: torch.Tensor, T: int) -> torch.Tensor:
    """Flags of three dimensions, of T steps or 1, as words int32 [., ., ceil(T / 4)] with an innermost stride of 1.

    A view, unless the steps of a row are not side by side or no whole words, or the first has an odd address: then a
    copy, in which the steps past the end are masked.
    """
    whole = flags.shape[2] == T and T % WORD == 0 and flags.stride(2) == 1
    if (
        not whole
        or any(n % WORD for n in flags.stride()[:2])
        or flags.data_ptr() % ALIGNMENT
        or flags.storage_offset() % WORD
    ):
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
    x = call.input
    (F, B, T, D), H = x.shape, call.weight.shape[2] // 2
    unit = vector_unit(x, dh)
    arguments = dict(
        x_ptr=x, w_ptr=call.weight, B=B, T=T,
        **stride_arguments("fbt", unit, x=x), **step_arguments(call, F, B, T),
    )  # fmt: skip
    constants = dict(
        D=D, H=H, HAS_BIAS=has_bias(call), HAS_ELAPSED=call.elapsed is not None,
        HAS_FLAGS=call.flags is not None,
        EVEN=config.divides(B, T), PACKED=packed(x) and packed(dh), UNIT=unit, PRECISION=precision,
        **config.tiles(D, H),
    )  # fmt: skip
    return arguments, constants
