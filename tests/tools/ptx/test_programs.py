"""Orders of programs, and the check of what they touch."""

import numpy as np
import pytest

from tools.ptx.programs import Accesses, RaceError, order

GRIDS = [(2,), (3, 2), (2, 3, 4), (40,)]


def test_programs_run_in_turn() -> None:
    assert order((3,)) == [(0, 0, 0), (1, 0, 0), (2, 0, 0)]
    assert order((2, 2, 2))[:5] == [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1)]
    assert order((0,)) == [] and order((0,), 1) == []


@pytest.mark.parametrize("grid", GRIDS)
def test_a_seed_draws_another_order_of_the_same_programs(grid: tuple[int, ...]) -> None:
    drawn = [order(grid, seed) for seed in range(20)]
    for x in drawn:
        assert sorted(x) == sorted(order(grid))
        assert x[-1] != order(grid)[-1]
    assert drawn == [order(grid, seed) for seed in range(20)]
    assert order((2,), 3) == [(1, 0, 0), (0, 0, 0)] and order((1,), 3) == [(0, 0, 0)]


BUFFERS = {"x": (1024, 64), "out": (2048, 64)}


def check(*steps: tuple[int, str, list[int], int]) -> None:
    """Steps (program, "read" or "write", addresses, size); programs in the order in which they come."""
    accesses, running = Accesses(), None
    for program, what, addresses, size in steps:
        if program != running:
            accesses.start((program, 0, 0))
            running = program
        getattr(accesses, what)(np.array(addresses, np.uint64), size)
    accesses.check("kernel", BUFFERS)


def test_programs_may_share_what_they_read_and_write_what_is_their_own() -> None:
    check()
    check((0, "read", [1024], 4), (1, "read", [1024], 4))
    check((0, "read", [1024], 4), (0, "write", [2048], 4), (1, "read", [1024], 4), (1, "write", [2052], 4))
    check((0, "write", [2048], 4), (0, "write", [2048], 4), (0, "read", [2048], 4), (1, "write", [2052], 4))
    check((0, "write", [], 4), (1, "write", [2048], 4))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            [(0, "write", [2048, 2056], 4), (1, "write", [2052, 2056], 4)],
            r"kernel: program \(0, 0, 0\) writes byte 8 of out, which program \(1, 0, 0\) writes too",
        ),
        ([(4, "write", [1040], 4), (3, "read", [1040], 4)], r"\(4, 0, 0\) writes byte 16 of x, .* \(3, 0, 0\) reads"),
        ([(3, "read", [1040], 4), (4, "write", [1040], 4)], r"\(4, 0, 0\) writes byte 16 of x, .* \(3, 0, 0\) reads"),
        # accesses of different sizes meet in one byte
        ([(0, "write", [2048], 16), (1, "write", [2060], 2)], r"writes byte 12 of out, .* \(1, 0, 0\) writes"),
        ([(0, "write", [2060], 2), (1, "read", [2048], 16)], r"writes byte 12 of out, .* \(1, 0, 0\) reads"),
        ([(0, "write", [4096], 4), (1, "write", [4096], 4)], r"writes address 0x1000, "),
    ],
)
def test_a_race_is_named(steps: list[tuple[int, str, list[int], int]], message: str) -> None:
    with pytest.raises(RaceError, match=message):
        check(*steps)
