"""torch.compile where the size of one input may change and those of the others not, as after a call of another."""

import itertools
from typing import Any

import pytest
import torch

import rnam

RAGGED = {"columns": [[0], [1, 2], [0, 3]]}
MODELS: dict[str, dict[str, Any]] = {
    "terms": {"timing": True, "static_columns": [[0], [1, 2]]},
    "columns": RAGGED | {"timing": True, "missing": True, "static_columns": [[0]], "members": 2},
}
INPUTS = ("input", "mask", "lengths", "times", "static", "static_mask")


def _inputs(name: str) -> dict[str, torch.Tensor]:
    shape = (4, 5, 6) if name == "columns" else (3, 4, 5)
    return {
        "input": torch.randn(shape if name == "columns" else (*shape, 1)),
        "mask": torch.rand(shape) > 0.4,
        "lengths": torch.tensor([0, 3, 5, 9]),
        "times": torch.rand(4, 5).cumsum(1),
        "static": torch.randn(4, 3),
        "static_mask": torch.rand(4, 3) > 0.4,
    }


@pytest.mark.parametrize(("name", "changing"), list(itertools.product(MODELS, INPUTS)))
@pytest.mark.parametrize("return_sequence", [False, True])
def test_models(name: str, changing: str, return_sequence: bool) -> None:
    torch._dynamo.reset()
    model, given = rnam.RNAM(3, 6, 1, 1, **MODELS[name]), _inputs(name)
    expected = model(**given, return_sequence=return_sequence)
    for dim in range(given[changing].dim()):
        torch._dynamo.maybe_mark_dynamic(given[changing], dim)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(tuple(compiled(**given, return_sequence=return_sequence)), tuple(expected))


@pytest.mark.parametrize("changing", ["input", "mask"])
def test_models_of_one_time(changing: str) -> None:
    torch._dynamo.reset()
    model, given = rnam.NAM(3, (6,)), {"input": torch.randn(4, 3), "mask": torch.rand(4, 3) > 0.4}
    expected = model(**given)
    for dim in range(2):
        torch._dynamo.maybe_mark_dynamic(given[changing], dim)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(tuple(compiled(**given)), tuple(expected))


@pytest.mark.parametrize("changing", range(4))
def test_a_cell(changing: int) -> None:
    torch._dynamo.reset()
    layer = rnam.minGRU(3, 4)
    flags = [torch.rand(3, 2, 5) > 0.3 for _ in range(2)]
    given = [torch.randn(3, 2, 5, 4), torch.rand(3, 2, 1, 4), *flags]
    for dim in range(given[changing].dim()):
        torch._dynamo.maybe_mark_dynamic(given[changing], dim)
    x, state, mask, reset = given
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, state, mask=mask, reset=reset), layer(x, state, mask=mask, reset=reset))
