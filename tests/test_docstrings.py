"""The examples in the docstrings run."""

import doctest

import pytest
import torch

import rnam


@pytest.mark.parametrize(
    "module", [rnam.functional, rnam.linear, rnam.gru, rnam.model, rnam.nam, rnam.resampling], ids=lambda m: m.__name__
)
def test_examples(module: object) -> None:
    names = {"torch": torch, "rnam": rnam, **vars(rnam.functional)}
    result = doctest.testmod(module, extraglobs=names)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0
