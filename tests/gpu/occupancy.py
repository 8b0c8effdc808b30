"""How many programs of a kernel one multiprocessor holds at once."""

from typing import Any

WARP = 32
# Registers are given to a warp in pieces of 256, so 8 a thread.
REGISTER_PIECE = 256
# Shared memory that the driver takes for each program, from compute capability 8.0 on.
RESERVED_SHARED = 1024
# Programs that one SM holds at most, from compute capability 8.0 on 16 to 32; the compiled kernels hold fewer.
MOST = 32


def programs_per_sm(device: Any, *, registers: int, shared: int, warps: int) -> int:
    """By registers a thread, bytes of shared memory and warps of a program, on a device's properties."""
    of_warp = -(-registers * WARP // REGISTER_PIECE) * REGISTER_PIECE
    by = (
        device.max_threads_per_multi_processor // (WARP * warps),
        device.regs_per_multiprocessor // (warps * of_warp) if registers else MOST,
        device.shared_memory_per_multiprocessor // (shared + RESERVED_SHARED),
        MOST,
    )
    return min(by)
