"""Flags as words: a view where rows of time are whole words side by side, else a copy with masked steps at the end."""

import pytest
import torch

from rnam.kernels.common.flags import MASKED, WORD
from rnam.kernels.common.operands import flag_words
from tests.support.assertions import assert_equal

F, B = 3, 5


def random(*sizes: int) -> torch.Tensor:
    return torch.randint(0, 4, sizes, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


LAYOUTS = {
    "contiguous": (random(F, B, 12), True),
    "of every term": (random(1, B, 12), True),
    "of every row": (random(F, 1, 12), True),
    "from an aligned step": (random(F, B, 32)[..., 16:28], True),
    "batch first": (random(B, F, 12).transpose(0, 1), True),
    "a row of any width": (random(1, 1, 13)[..., :12], False),
    "no whole words": (random(F, B, 13), False),
    "one flag a row": (random(F, B, 1), False),
    "every second step": (random(F, B, 24)[..., ::2], False),
    "from the third step": (random(F, B, 24)[..., 2:14], False),
    "rows of any width": (random(F, B, 13)[..., :12], False),
    "time first": (random(12, F, B).permute(1, 2, 0), False),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_words_are_the_flags_of_their_steps(name: str) -> None:
    flags, view = LAYOUTS[name]
    T = max(12, flags.shape[2])
    words = flag_words(flags, T)
    assert words.dtype == torch.int32 and words.stride(2) == 1
    assert (words.untyped_storage().data_ptr() == flags.untyped_storage().data_ptr()) is view
    steps = words.contiguous().view(torch.uint8)
    assert_equal("flags", steps[..., :T], flags.expand(*flags.shape[:2], T))
    assert_equal("past the end", steps[..., T:], torch.full_like(steps[..., T:], MASKED))
    assert words.shape == (*flags.shape[:2], -(-T // WORD))


def test_flags_that_begin_inside_a_word_are_copied() -> None:
    memory = random(1 + F * B * 12)
    flags = memory[1:].view(F, B, 12)
    words = flag_words(flags, 12)
    assert words.untyped_storage().data_ptr() != memory.untyped_storage().data_ptr()
    assert_equal("flags", words.view(torch.uint8), flags)
