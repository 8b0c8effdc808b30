"""The programs of one launch: an order to run them in, and a check that none depends on another.

A GPU runs the programs of a launch at once and in no fixed order. So a program may write only what no other program
reads or writes. On a CPU they run one after the other, and a kernel that breaks the rule can still be right: where each
of them writes one address, the last one wins, and the last one may be the right one.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from tools.ptx.arithmetic import Array

Program = tuple[int, int, int]  # its place in the grid, or the size of a grid


class RaceError(RuntimeError):
    """Two programs of a launch touch one address, and at least one of them writes it."""


def order(grid: Iterable[int], seed: int | None = None) -> list[Program]:
    """All programs of a grid: in turn, the first axis fastest, or in an order that depends on the seed and the grid.

    The order of a seed never ends with the program that is last in turn, since the last write wins.
    """
    width, height, depth = (*grid, 1, 1)[:3]
    programs = [(x, y, z) for z in range(depth) for y in range(height) for x in range(width)]
    if seed is None or len(programs) < 2:
        return programs
    drawn = np.random.default_rng([seed, width, height, depth]).permutation(len(programs))
    if drawn[-1] == len(programs) - 1:
        drawn = np.roll(drawn, 1)
    return [programs[i] for i in drawn]


class _Access(NamedTuple):
    program: int
    addresses: Array
    size: int  # bytes at each address


class Accesses:
    """What the programs of a launch read and write in global memory, to be checked when all of them have run."""

    def __init__(self) -> None:
        self._programs: list[Program] = []
        self._reads: list[_Access] = []
        self._writes: list[_Access] = []

    def start(self, program: Program) -> None:
        """What follows is done by this program."""
        self._programs.append(program)

    def read(self, addresses: Array, size: int) -> None:
        """Notes a load of `size` bytes at each address."""
        self._reads.append(_Access(len(self._programs) - 1, addresses, size))

    def write(self, addresses: Array, size: int) -> None:
        """Notes a store of `size` bytes at each address."""
        self._writes.append(_Access(len(self._programs) - 1, addresses, size))

    def check(self, kernel: str, buffers: Mapping[str, tuple[int, int]]) -> None:
        """Raises RaceError if a program wrote what another one read or wrote.

        The error names the kernel and, of `buffers` (name: (first address, bytes)), the one that holds the address.
        """
        if not self._writes or len(self._programs) == 1:
            return
        unit = min(access.size for access in self._reads + self._writes)
        written, writers = _by_unit(self._writes, unit)
        sort = np.argsort(written, kind="stable")
        written, writers = written[sort], writers[sort]
        both = np.nonzero((written[1:] == written[:-1]) & (writers[1:] != writers[:-1]))[0]
        if len(both):
            i = both[0]
            self._fail(kernel, buffers, written[i] * unit, writers[i], "writes", writers[i + 1])
        if self._reads:
            read, readers = _by_unit(self._reads, unit)
            at = np.minimum(np.searchsorted(written, read), len(written) - 1)
            both = np.nonzero((written[at] == read) & (writers[at] != readers))[0]
            if len(both):
                i = both[0]
                self._fail(kernel, buffers, read[i] * unit, writers[at[i]], "reads", readers[i])

    def _fail(
        self, kernel: str, buffers: Mapping[str, tuple[int, int]], address: int, first: int, verb: str, second: int
    ) -> None:
        place = next(
            (f"byte {address - start} of {name}" for name, (start, n) in buffers.items() if 0 <= address - start < n),
            f"address {address:#x}",
        )
        programs = self._programs[first], self._programs[second]
        raise RaceError(f"{kernel}: program {programs[0]} writes {place}, which program {programs[1]} {verb} too")


def _by_unit(accesses: list[_Access], unit: int) -> tuple[Array, Array]:
    """(addresses in units, programs): one entry for each unit that is touched."""
    addresses, programs = [], []
    for size in {access.size for access in accesses}:
        chosen = [access for access in accesses if access.size == size]
        first = np.concatenate([access.addresses for access in chosen]).astype(np.int64) // unit
        program = np.repeat([access.program for access in chosen], [len(access.addresses) for access in chosen])
        units = size // unit
        addresses.append((first[:, None] + np.arange(units)).reshape(-1))
        programs.append(np.repeat(program, units))
    return np.concatenate(addresses), np.concatenate(programs)
