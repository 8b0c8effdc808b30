"""torch.compile where the size of one input may change and those of the others not, as after a call of another."""

import itertools
from typing import Any

import pytest
import torch

import rnam
from rnam.functional import min_gru, min_gru_projected, min_lstm

RAGGED = {"columns": [[0], [1, 2], [0, 3]]}
MODELS: dict[str, dict[str, Any]] = {
    "terms": {"timing": True, "static_columns": [[0], [1, 2]]},
    "columns": RAGGED
    | {"timing": True, "missing": True, "static_columns": [[0]], "members": 2}
    | {"continuous": True, "memoryless_columns": [[4], [0, 5]]},
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


@pytest.mark.parametrize("changing", range(5))
@pytest.mark.parametrize("kind", [rnam.minGRU, rnam.minLSTM])
def test_a_cell(kind: type, changing: int) -> None:
    torch._dynamo.reset()
    layer = kind(3, 4, timescales=(1, 9))
    flags = [torch.rand(3, 2, 5) > 0.3 for _ in range(2)]
    given = [torch.randn(3, 2, 5, 4), torch.rand(3, 2, 1, 4), *flags, torch.rand(1, 2, 5)]
    for dim in range(given[changing].dim()):
        torch._dynamo.maybe_mark_dynamic(given[changing], dim)
    x, state, mask, reset, elapsed = given
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for options in ({}, {"elapsed": elapsed}):
        options = {"mask": mask, "reset": reset, **options}
        torch.testing.assert_close(compiled(x, state, **options), layer(x, state, **options))


@pytest.mark.parametrize("function", [min_gru, min_lstm, min_gru_projected], ids=lambda f: f.__name__)
def test_weights_of_several_widths(function: Any) -> None:
    """One compiled function, as of layers of several widths."""
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for hidden in (4, 5, 6):
        given = [torch.randn(2, 3, 5, 4), torch.randn(2, 4, hidden * (3 if function is min_lstm else 2))]
        given += [torch.randn(2, hidden, 4)] if function is min_gru_projected else []
        torch.testing.assert_close(compiled(*given), function(*given))


def test_a_step_of_any_number_of_rows_is_one_graph() -> None:
    """In eager mode few rows go another way than many."""
    torch._dynamo.reset()
    layer, graphs = rnam.minGRU(3, 4), []

    def backend(graph: Any, given: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(layer, fullgraph=True, backend=backend, dynamic=True)
    with torch.no_grad():
        for batch in (8, 9, 100, 20_000):
            x = torch.randn(3, batch, 1, 4)
            torch.testing.assert_close(compiled(x), layer(x))
    assert len(graphs) == 1
