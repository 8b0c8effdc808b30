"""The examples in the docstrings run."""

import doctest

import pytest
import torch

import rnam

MODULES = [
    rnam.functional,
    rnam.linear,
    rnam.gru,
    rnam.model,
    rnam.regularizers,
    rnam.explain.names,
    rnam.explain.evaluation,
    rnam.explain.centring,
    rnam.explain.calibration,
    rnam.explain.responses,
    rnam.explain.tables,
]


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_examples(module: object) -> None:
    names = {"torch": torch, "rnam": rnam, **vars(rnam.functional), **vars(module)}
    result = doctest.testmod(module, extraglobs=names)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0
