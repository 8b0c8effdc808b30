"""Masks and resets as bits: one definition, which every backend reads or is held to."""

import pytest
import torch

from rnam.backends.flags import MASKED, RESET, decode, encode, forget


def test_the_bits() -> None:
    mask, reset = torch.tensor([True, True, False, False]), torch.tensor([False, True, False, True])
    flags = encode(mask, reset)
    assert flags is not None and flags.dtype == torch.uint8
    assert flags.flatten().tolist() == [0, RESET, MASKED, MASKED | RESET]
    assert MASKED & RESET == 0


def test_there_and_back() -> None:
    mask, reset = torch.rand(3, 4, 5) > 0.5, torch.rand(4, 1) > 0.5
    for given in ((mask, reset), (mask, None), (None, reset)):
        flags = encode(*given)
        assert flags is not None and flags.dim() == 3
        for bits, expected, absent in zip(decode(flags), given, (True, False), strict=True):
            assert bits is not None
            whole = torch.full(bits.shape, absent) if expected is None else expected.expand(bits.shape)
            assert torch.equal(bits, whole)
    assert encode(None, None) is None
    assert decode(None) == (None, None)


def test_a_reset_at_the_first_step_forgets_the_state() -> None:
    h0 = torch.tensor([torch.inf, 2.0, torch.nan]).view(1, 3, 1, 1)
    reset = torch.tensor([[True, False], [False, True], [True, True]])
    assert forget(h0, reset, torch.zeros(1, 3, 2, 4)).flatten().tolist() == [0, 2, 0]
    assert forget(h0, reset[:, :0], torch.zeros(1, 3, 0, 4)) is h0


@pytest.mark.interpreter
def test_the_kernels_read_the_same_bits() -> None:
    from rnam.kernels.common import flags

    assert (flags.MASKED, flags.RESET) == (MASKED, RESET)
