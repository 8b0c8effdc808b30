"""The memory of the executor: buffers in global memory and the shared memory of a program.

An access is an array of addresses, one for each thread. It must lie inside one buffer and be aligned to its size.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tools.ptx.arithmetic import Array
from tools.ptx.programs import Accesses, Program

PAGE = 4096
FIRST_ADDRESS = 1 << 20


class Memory:
    """Global buffers, which programs share, and `shared` bytes of a program."""

    def __init__(self, shared: int):
        self.shared = np.zeros(shared, np.uint8)
        self.buffers: list[tuple[int, Array]] = []  # (address, bytes)
        self.accesses: Accesses | None = None  # where global accesses are noted
        self._next = FIRST_ADDRESS

    def start(self, program: Program) -> None:
        """Another program runs. What the last one left in shared memory is not there for it."""
        self.shared[:] = 0xFF  # a NaN, whatever the type
        if self.accesses is not None:
            self.accesses.start(program)

    def alloc(self, array: Array, offset: int = 0) -> int:
        """Copies an array into a buffer of its own and returns its address, `offset` bytes into a page.

        A free page follows each buffer, so that an access past its end is in no buffer.
        """
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8).copy()
        address = self._next + offset
        self._next += (len(data) + PAGE - 1) // PAGE * PAGE + PAGE
        self.buffers.append((address, data))
        return address

    def read(self, address: int, dtype: npt.DTypeLike, shape: Sequence[int]) -> Array:
        """The contents of the buffer at an address that `alloc` returned."""
        data = next(data for start, data in self.buffers if start == address)
        return data.view(dtype).reshape(shape).copy()

    def load(self, space: str, address: Array, size: int, mask: Array | None) -> Array:
        """[threads, size] bytes; zero for threads outside the mask. `space` is "global" or "shared"."""
        out = np.zeros((len(address), size), np.uint8)
        for threads, data, offset in self._locate(space, address, size, mask):
            if self.accesses is not None and space == "global":
                self.accesses.read(address[threads], size)
            out[threads] = data[offset[:, None] + np.arange(size)]
        return out

    def store(self, space: str, address: Array, values: Array, mask: Array | None) -> None:
        """Writes [threads, size] bytes for the threads of the mask. Threads at one address must agree."""
        size = values.shape[1]
        for threads, data, offset in self._locate(space, address, size, mask):
            if self.accesses is not None and space == "global":
                self.accesses.write(address[threads], size)
            at = offset[:, None] + np.arange(size)
            data[at] = values[threads]
            if (data[at] != values[threads]).any():
                raise ValueError(f"{space} store of different values at one address")

    def _locate(self, space: str, address: Array, size: int, mask: Array | None) -> list[tuple[Array, Array, Array]]:
        """For each buffer that is touched: (threads, bytes of the buffer, offsets in it)."""
        threads = np.arange(len(address)) if mask is None else np.nonzero(mask)[0]
        if (address[threads] % size).any():
            raise IndexError(f"{space} access of {size} bytes that is not aligned to them")
        found = []
        for start, data in [(0, self.shared)] if space == "shared" else self.buffers:
            offset = address[threads] - start
            inside = (offset >= 0) & (offset + size <= len(data))
            if inside.any():
                found.append((threads[inside], data, offset[inside]))
                threads = threads[~inside]
            if not len(threads):
                return found
        if len(threads):
            raise IndexError(
                f"{space} access of {size} bytes at {hex(int(address[threads[0]]))} "
                f"by thread {threads[0]} is in no buffer"
            )
        return found
