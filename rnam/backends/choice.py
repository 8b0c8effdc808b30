"""Which backend computes a call: "triton" (the fused kernels), "torch" (plain PyTorch in blocks that fit a CPU's cache)
or "reference" (plain PyTorch, as the formulas stand), and why.

"auto" takes the kernels for CUDA tensors of a dtype they read, "torch" for CPU tensors (but the reference under
forward-mode differentiation), and the reference for all others. An explicit choice that can't run raises.

An AMD device is "cuda" to torch. The kernels compile for it and have not been compared there, so "auto" takes the
reference.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import threading
import warnings
from types import TracebackType
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from rnam import _checks

Path = Literal["triton", "torch", "reference"]

BACKENDS = ("auto", "triton", "torch", "reference")
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


UNPROVEN = "the kernels were never compared with the reference on an AMD device; `pytest tests/gpu` does it"

# the names under which it is distributed: with torch for CUDA, for ROCm and for Intel's devices
TRITONS = ("triton", "pytorch-triton-rocm", "triton-rocm", "pytorch-triton-xpu", "triton-xpu", "pytorch-triton")


def _rocm() -> bool:
    """Whether torch was built for AMD devices."""
    return torch.version.hip is not None


def _known(argument: str, name: str) -> str:
    """`name`, if it is a backend. Warns of one that was not proven on the devices of this torch."""
    _checks.one_of(argument, name, BACKENDS)
    if name == "triton" and _rocm():
        warnings.warn(f"{argument} {name!r}: {UNPROVEN}", stacklevel=3)
    return name


def _from_environment() -> str:
    return _known("RNAM_BACKEND", os.environ.get("RNAM_BACKEND", "auto"))


def triton_version() -> str:
    """As it is distributed; "not installed", or "0.0" where no distribution that is known has it."""
    if importlib.util.find_spec("triton") is None:
        return "not installed"
    for name in TRITONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "0.0"


def _major_minor(version: str) -> tuple[int, ...] | None:
    return None if version == "not installed" else tuple(map(int, version.split(".")[:2]))


# Read once, at import: torch.compile traces through what reads them.
_TRITON = _major_minor(triton_version())
_INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"


_DEFAULT = _from_environment()


class _Choice(threading.local):
    """What this thread has chosen. It starts with the default of the process.

    torch.compile guards on what it reads here. It could not trace a context variable.

    name      the backend
    outer     the backends outside of the `with` statements that the thread is in
    pending   the newest set_backend that no `with` has entered, and the backend before it
    """

    def __init__(self) -> None:
        self.name = _DEFAULT  # of the instance: of a class attribute torch.compile makes a constant without a guard
        self.outer: list[str] = []
        self.pending: tuple[set_backend, str] | None = None


_choice = _Choice()


class set_backend:
    """Choose the backend of this thread's calls from here on, or, as a context manager, of those inside.

    Other threads keep their own choice, and a new thread starts with the process's default. A backward uses the backend
    of its forward, whichever thread runs it. In a function that torch.compile compiles write a `with`: what a statement
    there chooses ends with the function.

    Args:
        name: "auto", "triton", "torch" or "reference"; the environment variable RNAM_BACKEND is the default of the
            process. "triton" runs on CPU tensors too where TRITON_INTERPRET=1 was set before Python started; "torch"
            runs on CPU tensors alone, where the bare scans, min_gru in logs and empty tensors are the reference's;
            "reference" runs on any device.

    Raises:
        ValueError: the name is none of these. A backend that can't run a call raises RuntimeError then.

    Warns:
        UserWarning: "triton" with a torch for AMD devices, where the kernels were never compared with the reference.

    Example:
        >>> with rnam.set_backend("reference"):
        ...     output, state = rnam.minGRU(3, 4)(torch.randn(3, 8, 10, 4))

        An object may be kept and entered again, in any thread:

        >>> plain = rnam.set_backend("reference")
        >>> with rnam.set_backend("auto"), plain:
        ...     rnam.get_backend()
        'reference'
    """

    def __init__(self, name: str) -> None:
        self.name = _known("name", name)
        _choice.pending = self, _choice.name
        _choice.name = name

    def __enter__(self) -> None:
        before = _choice.name
        if _choice.pending is not None and _choice.pending[0] is self:
            before = _choice.pending[1]  # `with set_backend(...)`: it has just been set
        _choice.outer.append(before)
        _choice.name, _choice.pending = self.name, None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # another thread may leave what this one entered
        _choice.name, _choice.pending = _choice.outer.pop() if _choice.outer else _DEFAULT, None


def get_backend() -> str:
    """The backend that this thread has set, which may be "auto"."""
    return _choice.name


def path_of(x: Tensor) -> Path:
    """The backend that computes a call on x; empty tensors are the reference's.

    Raises:
        RuntimeError: a backend is set and can't run it.
    """
    found = path(x.device, x.dtype)
    return found if x.numel() else "reference"


def path(device: torch.device, dtype: torch.dtype) -> Path:
    """The backend that computes a call on tensors like this.

    Raises:
        RuntimeError: a backend is set and can't run it.
    """
    backend = _choice.name
    if backend == "reference":
        return "reference"
    if backend == "auto":
        if _takes_kernels(device) and not obstacle(device, dtype):
            return "triton"
        return "torch" if device.type == "cpu" and not forward_mode() else "reference"
    reason = obstacle(device, dtype) if backend == "triton" else _not_in_blocks(device)
    if reason:
        raise RuntimeError(f"backend {backend!r} can't run this call: {reason}")
    return "triton" if backend == "triton" else "torch"


def explain(device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """(the path a call takes or "none", why), in words; never raises."""
    try:
        found = path(device, dtype)
    except (RuntimeError, AssertionError) as error:  # a torch that was built without CUDA raises the latter
        return "none", str(error)
    if _choice.name != "auto":
        return found, f"backend {_choice.name!r} is set"
    if found == "triton":
        return found, "backend 'auto' takes the kernels wherever they run"
    if found == "torch":
        return found, "backend 'auto' takes 'torch' for CPU tensors"
    if device.type == "cuda" and _rocm():
        return found, UNPROVEN
    return found, obstacle(device, dtype) or "backend 'auto' takes the reference for forward-mode differentiation"


def forward_mode() -> bool:
    """Whether forward-mode differentiation is on, which only the reference has."""
    return forward_ad._current_level >= 0


def _not_in_blocks(device: torch.device) -> str:
    """Why "torch" can't compute on tensors like this; empty when it can."""
    if device.type in ("cpu", "meta"):
        return ""
    return f"the tensors are on {device.type}, and 'torch' is for CPU tensors ('reference' runs on any device)"


def _takes_kernels(device: torch.device) -> bool:
    """Where "auto" takes the kernels: the interpreter is for tests, and slow."""
    return device.type == "cuda" and not _rocm()


def obstacle(device: torch.device, dtype: torch.dtype) -> str:
    """Why the kernels can't read tensors like this; empty when they can."""
    if dtype not in KERNEL_DTYPES:
        return f"the kernels read float32, bfloat16 and float16, not {str(dtype).removeprefix('torch.')}"
    if not triton_installed():
        return "triton is not installed"
    if device.type == "cuda":
        return _gpu_obstacle(device.index)
    if device.type == "cpu" and interpreted():
        return ""
    if device.type == "cpu":
        return "the tensors are on the CPU, which takes TRITON_INTERPRET=1 in the environment at the start"
    return f"the tensors are on {device.type}, and the kernels run on CUDA devices"


def triton_installed() -> bool:
    return _TRITON is not None


def interpreted() -> bool:
    """Triton reads this variable when it is imported, and compiles nothing in such a process."""
    return _INTERPRETED


def _gpu_obstacle(index: int | None) -> str:
    if _INTERPRETED:
        return ""
    device = torch.cuda.get_device_properties(torch.cuda.current_device() if index is None else index)
    if device.major < 8:
        return f"the kernels need compute capability 8.0, and this device has {device.major}.{device.minor}"
    if device.major == 10 and _TRITON is not None and _TRITON < (3, 7):
        return "triton before 3.7 multiplies wrongly on compute capability 10 (triton #9871)"
    return ""
