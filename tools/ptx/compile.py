"""Compiles a launch ahead of time, for a GPU that need not be there."""

import functools
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tools.ptx.launch import Launch

TRITON = tuple(map(int, triton.__version__.split(".")[:2]))

# Compute capabilities whose code is read back. Triton before 3.7 multiplies wrongly on 10.0 (its issue 9871).
ARCHITECTURES = (80, 90, 100, 120) if TRITON >= (3, 7) else (80, 90, 120)

ALIGNMENT = 16  # bytes; a pointer that is a multiple of it is compiled apart, for wide loads
POINTER = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
    torch.int32: "*i32",
}

Attributes = dict[tuple[int, ...], list[list[Any]]]


def signature(launch: Launch) -> tuple[dict[str, str], dict[str, Any], Attributes]:
    """Returns (types, constants, attributes) of a kernel's parameters, which together decide what is compiled.

    They are what Triton's own launcher derives from the values. It specialises on the alignment of pointers and on some
    values of numbers; a number that is not excluded from that (`do_not_specialize`) is refused here.
    """
    values = {**launch.arguments, **launch.constants}
    types: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: Attributes = {}
    for i, parameter in enumerate(launch.kernel.params):
        name, value = parameter.name, values[parameter.name]
        if parameter.is_constexpr or value is None:
            types[name], constants[name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            types[name] = POINTER[value.dtype]
            if value.data_ptr() % ALIGNMENT == 0:
                attributes[(i,)] = [["tt.divisibility", ALIGNMENT]]
        else:
            if not parameter.do_not_specialize:
                raise ValueError(f"{launch.kernel.__name__}: {name} would be compiled per value")
            types[name] = "i64" if parameter.annotation_type == "i64" else "i32"
    return types, constants, attributes


def compile_launch(launch: Launch, cc: int) -> Any:
    """The kernel of a launch as Triton compiles it for compute capability cc: 80, 90, 100 or 120."""
    return compile_for(launch, GPUTarget("cuda", cc, 32))


def compile_for(launch: Launch, target: GPUTarget) -> Any:
    """The kernel of a launch as Triton compiles it for a target, which may be another maker's."""
    types, constants, attributes = signature(launch)
    return _compile(
        launch.kernel,
        tuple(types.items()),
        tuple(constants.items()),
        tuple((k, v[0][1]) for k, v in attributes.items()),
        target,
        tuple(launch.options.items()),
    )


@functools.cache
def _compile(
    kernel: Any,
    types: tuple[tuple[str, str], ...],
    constants: tuple[tuple[str, Any], ...],
    alignments: tuple[tuple[tuple[int, ...], int], ...],
    target: GPUTarget,
    options: tuple[tuple[str, int], ...],
) -> Any:
    attributes = {k: [["tt.divisibility", v]] for k, v in alignments}
    source = ASTSource(kernel, dict(types), dict(constants), attributes)
    return triton.compile(source, target=target, options=dict(options))
