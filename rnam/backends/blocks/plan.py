"""How a call is cut into blocks that stay in cache, the buffers for one block, and its masks and resets."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from rnam.backends.flags import MASKED, RESET

# Elements of one step: above WIDE the 1.2 us of Python per step no longer count, below NARROW time is cut in segments,
# unless the steps are FEW.
WIDE, NARROW, FEW = 16384, 2048, 64

HUGE, PAGE = 1 << 22, 1 << 21  # bytes from which numpy asks for huge pages, and of such a page


class Block(NamedTuple):
    """Some terms and batch rows, and `segments` times `steps` steps from `start`."""

    terms: slice
    rows: slice
    start: int
    segments: int
    steps: int

    def cut(self, x: Tensor) -> Tensor:
        """This block of x (terms, batch, seq, width), as (terms, steps, segments, batch, width)."""
        time = slice(self.start, self.start + self.segments * self.steps)
        return _segments(x[self.terms, self.rows, time], self.segments, self.steps)

    def cut_steps(self, x: Tensor, sizes: torch.Size) -> Tensor:
        """This block of x, one value a step, of three sizes that may be 1: (terms or 1, steps, segments, batch, 1)."""
        every = x.expand(x.shape[0], *sizes[1:])[..., None]
        return (self if x.shape[0] > 1 else self._replace(terms=slice(None))).cut(every)

    def before(self, h: Tensor, h0: Tensor | None) -> Tensor:
        """The states before each step of this block, as `cut`."""
        if self.start:
            return self._replace(start=self.start - 1).cut(h)
        first = h.new_zeros(*h.shape[:2], 1, h.shape[3]) if h0 is None else h0
        inside = h[self.terms, self.rows, : self.segments * self.steps - 1]
        return _segments(torch.cat([first[self.terms, self.rows], inside], dim=2), self.segments, self.steps)


class Plan:
    """How x (terms, batch, seq, dim) is cut into blocks of about `elements`; a function of the sizes alone."""

    def __init__(self, sizes: torch.Size, hidden: int, elements: int) -> None:
        self.sizes = sizes[:3]
        terms, batch, seq = self.sizes
        side = max(hidden, sizes[3])
        wide = max(WIDE, elements // max(1, seq))  # a short sequence fits with all its steps
        self.batch = max(1, min(batch, wide // side))
        self.terms = max(1, min(terms, wide // (side * self.batch)))
        width, side = (self.terms * self.batch * n for n in (hidden, side))
        if side < NARROW:
            elements *= 2  # few rows wait for Python longer than for memory
        self.steps = max(1, min(seq, elements // side))
        self.most_segments = WIDE // width if width < NARROW and seq > FEW else 1

    @property
    def rows(self) -> int:
        """The most rows, in all, of a block."""
        return self.terms * self.batch * self.steps

    def groups(self) -> Iterator[tuple[slice, slice]]:
        """Terms and batch rows that are walked through time together."""
        terms, batch, _ = self.sizes
        for i in range(0, terms, self.terms):
            for j in range(0, batch, self.batch):
                yield slice(i, min(terms, i + self.terms)), slice(j, min(batch, j + self.batch))

    def blocks(self, terms: slice, rows: slice) -> list[Block]:
        """The blocks of one group, from the first step to the last."""
        start, blocks = 0, []
        while start < self.sizes[2]:
            length = min(self.steps, self.sizes[2] - start)
            segments = num_segments(length, self.most_segments)
            blocks.append(Block(terms, rows, start, segments, length // segments))
            start += length // segments * segments
        return blocks


@functools.cache
def num_segments(steps: int, most: int) -> int:
    """How many segments, up to `most`, `steps` steps are cut in.

    A step of all segments takes three operations and a segment one, or less where they are many (`walk.py`): the best
    number is about the larger of sqrt(1.5 steps) and steps / 24. The number returned is between that and twice that,
    and leaves the fewest steps over, which are another block.
    """
    aim = min(max(math.isqrt(3 * steps // 2), steps // 24), steps // 4, most)
    if aim < 2:
        return 1
    return min(range(aim, min(2 * aim, steps // 4, most) + 1), key=lambda count: steps % count)


class Workspace:
    """Buffers by name, made once a call, for `rows` rows, and cut to the size of each block."""

    def __init__(self, rows: int, like: Tensor) -> None:
        self.rows, self.like = rows, like
        self.memory: dict[str, Tensor] = {}

    def __call__(self, name: str, block: Tensor, width: int) -> Tensor:
        """The buffer `name` with the sizes of `block` (terms, ..., *) and this width."""
        if name not in self.memory:
            self.memory[name] = self.like.new_empty(self.rows * width)
        sizes = (*block.shape[:-1], width)
        return self.memory[name][: math.prod(sizes)].view(sizes)


class Edits:
    """Masks and resets of a block as bits (terms or 1, steps, segments, batch, 1): all ones or zeros to `select` by.
    They come from the flags of the block's steps.

    torch.where takes 3.4 ns an element, more than the whole forward, and a product with 0 would keep a NaN.
    """

    def __init__(self, flags: Tensor, like: Tensor) -> None:
        integer = _integers(like)
        one = torch.ones(1, dtype=like.dtype, device=like.device).view(integer)
        own = flags.to(integer)
        self.observed = (own & MASKED) - 1
        carries = own // RESET - 1  # the state before has a share, through the gate or held
        self.moves = self.observed & carries  # where the carry is the gate's
        self.held = self.moves ^ carries  # where the state before is kept to the bit
        self.holds = self.held & one  # the bits of 1 there


def select(x: Tensor, bits: Tensor, others: Tensor | None = None) -> Tensor:
    """x where `bits` are ones, elsewhere 0, or what `others` has there; in place."""
    chosen = x.view(bits.dtype).bitwise_and_(bits)
    if others is not None:
        chosen.bitwise_or_(others)
    return x


def new(sizes: torch.Size, like: Tensor) -> Tensor:
    """Memory for a result. Large ones come from numpy, which asks the system for huge pages where torch does not; their
    storage cannot be resized.

    Touching new memory for the first time takes 1.6 ns a float32 in pages of 4 KiB and 0.4 in huge ones. They are
    touched here, one after the other: two threads that met in the same new page took 36 ms where one takes 7.
    """
    size = math.prod(sizes) * like.element_size()
    if like.device.type != "cpu" or size < HUGE:
        return like.new_empty(sizes)
    memory = numpy.empty(size + PAGE, dtype=numpy.uint8)
    start = -memory.ctypes.data % PAGE
    memory = memory[start : start + size]
    memory[::PAGE] = 0
    return like.new_empty(0).set_(torch.from_numpy(memory).untyped_storage()).resize_(sizes)


# Rows of this many bytes are copied as one word.
WORDS = {8: torch.float64, 16: torch.complex128}


def copy(to: Tensor, source: Tensor) -> Tensor:
    """to.copy_(source), and a row of 2 or 4 floats as one word where the rows lie so that they can be read as such.

    Where time and batch change places, a row of 4 floats takes 2.4 ns a number, and 0.6 as one word. From 8 on it makes
    no difference to a whole call.
    """
    word = WORDS.get(to.shape[-1] * to.element_size())
    if word is None or to.dtype != source.dtype or not (_holds(to, word) and _holds(source, word)):
        return to.copy_(source)
    to.view(word).copy_(source.view(word))
    return to


def _holds(x: Tensor, word: torch.dtype) -> bool:
    """Whether x.view(word) can be had, and its words lie where the machine can read each at once."""
    numbers = word.itemsize // x.element_size()
    starts = (x.storage_offset(), *x.stride()[:-1])
    return x.stride(-1) == 1 and x.data_ptr() % word.itemsize == 0 and all(n % numbers == 0 for n in starts)


def in_place(part: Tensor, like: Tensor) -> bool:
    """Whether a part of an argument or a result can be computed with where it lies."""
    return part.dtype == like.dtype and part.is_contiguous()


def _integers(x: Tensor) -> torch.dtype:
    return torch.int64 if x.element_size() == 8 else torch.int32


def _segments(x: Tensor, segments: int, steps: int) -> Tensor:
    """(terms, batch, seq, width) -> (terms, steps, segments, batch, width)."""
    if segments == 1:
        return x.transpose(1, 2).unsqueeze(2)
    return torch.unflatten(x, 2, (segments, steps)).permute(0, 3, 2, 1, 4)
