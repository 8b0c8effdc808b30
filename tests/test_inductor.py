"""Inductor on a CPU: what torch.compile makes of a model, as C++, computes what the model does, with every option.

The other tests of compiling stop before C++ is made ("aot_eager"). One of these is in the usual run: a map of columns
of different widths with lengths, whose mask C++ did not take.
"""

import importlib
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rnam
from rnam.backends import choice
from rnam.models.inputs import Columns, inside
from rnam.regularizers import concurvity, output_penalty

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler"),
    pytest.mark.skipif(choice.interpreted(), reason="C++ is made of the other process's graphs"),
]

LONG, SLOW = pytest.mark.long, pytest.mark.slow
TERMS, BATCH, SEQ = 3, 4, 5
RAGGED = {"columns": [[0], [1, 2], [0, 3]]}
EVERY = RAGGED | {
    "missing": True, "timing": True, "continuous": True, "timescales": (1.0, 9.0), "time_unit": 0.5,
    "memoryless_columns": [[3], [0, 1]], "static_columns": [[0], [1, 2]],
}  # fmt: skip
ALL = ("mask", "lengths", "times", "static", "static_mask")

# options of the model, and what it is given beside its input
MODELS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "plain": ({}, ()),
    "mask": ({}, ("mask",)),
    "mask and lengths": ({}, ("mask", "lengths")),
    "missing": ({"missing": True}, ()),
    "missing and mask": ({"missing": True}, ("mask",)),
    "lstm": ({"cell": "minlstm"}, ("mask",)),
    "members": ({"members": 2}, ("lengths",)),
    "wide input": ({"in_dim": 2}, ("mask",)),
    "a view": ({"columns": [[0], [1], [2]]}, ("mask", "lengths")),
    "gathered": ({"columns": [[2], [0], [1]]}, ("mask", "lengths")),
    "ragged": (RAGGED, ()),
    "ragged and lengths": (RAGGED, ("lengths",)),
    "ragged, mask and lengths": (RAGGED, ("mask", "lengths")),
    "timing": ({"timing": True}, ("times",)),
    "timing and mask": ({"timing": True}, ("times", "mask")),
    "static": ({"static_columns": [[0], [1]]}, ("static", "static_mask")),
    "ragged static": ({"static_columns": [[0], [1, 2]]}, ("static", "static_mask")),
    "every option": (EVERY, ALL),
    "every option, members, lstm": (EVERY | {"members": 2, "cell": "minlstm"}, ALL),
}
NAMS: dict[str, dict[str, Any]] = {
    "NAM": {},
    "NAM missing": {"missing": True},
    "NAM ragged": {"columns": RAGGED["columns"], "missing": True, "members": 2, "activation": "gelu"},
}


@pytest.fixture(scope="module", autouse=True)
def _one_process() -> Iterator[None]:
    """Inductor compiles in this process, and nothing is left behind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what torch imports
        config = importlib.import_module("torch._inductor.config")
        importlib.import_module("torch._inductor.compile_fx")
    with config.patch(compile_threads=1):
        yield


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _inputs(options: dict[str, Any], beside: tuple[str, ...], batch: int = BATCH, seq: int = SEQ) -> dict[str, Tensor]:
    shape = (batch, seq, 4) if "columns" in options else (TERMS, batch, seq)
    given = {
        "mask": torch.rand(shape) > 0.4,
        "lengths": torch.randint(0, seq + 1, (batch,)),
        "times": torch.rand(batch, seq).cumsum(1),
        "static": torch.randn(batch, 3),
        "static_mask": torch.rand(batch, 3) > 0.4,
    }
    wide = torch.randn(shape if "columns" in options else (*shape, options.get("in_dim", 1)))
    return {"input": wide} | {name: given[name] for name in beside}


def _assert_compiles(model: nn.Module, given: dict[str, Any], gradients: bool = True, **options: Any) -> Any:
    """Outputs, and gradients of every parameter, are those of the model as it is."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    compiled = torch.compile(model, fullgraph=True, **options)
    with torch.set_grad_enabled(gradients):
        got, expected = compiled(**given), model(**given)
    torch.testing.assert_close(tuple(got), tuple(expected))
    if gradients:
        found = [torch.autograd.grad(out.prediction.square().sum(), parameters.values()) for out in (got, expected)]
        for name, one, other in zip(parameters, *found, strict=True):
            torch.testing.assert_close(one, other, msg=name)
    return compiled


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.long
def test_columns_of_different_widths_with_lengths() -> None:
    """The short one of the usual run: what a model reads, without the model."""
    columns, given = Columns("columns", RAGGED["columns"]), _inputs(RAGGED, ("lengths",))

    def read(input: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        return columns.read("input", input, None, "batch, seq, columns", inside(input, lengths, BATCH, SEQ))

    torch.testing.assert_close(torch.compile(read, fullgraph=True)(**given), read(**given))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("return_sequence", [pytest.param(False, marks=LONG), pytest.param(True, marks=SLOW)])
def test_every_option(name: str, return_sequence: bool) -> None:
    options, beside = MODELS[name]
    model = rnam.RNAM(TERMS, 6, 2, 2, **options)
    _assert_compiles(model, _inputs(options, beside) | {"return_sequence": return_sequence})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", NAMS)
@pytest.mark.parametrize("masked", [pytest.param(False, marks=SLOW), pytest.param(True, marks=LONG)])
def test_models_of_one_time(name: str, masked: bool) -> None:
    x = torch.randn(BATCH, 4)
    mask = {"mask": torch.rand(BATCH, 4) > 0.4} if masked else {}
    _assert_compiles(rnam.NAM(TERMS, (6, 5), out_dim=2, **NAMS[name]), {"input": x} | mask)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.uint16, torch.int64, torch.float16], ids=str)
def test_times_and_lengths_of_every_width(dtype: torch.dtype) -> None:
    model = rnam.RNAM(TERMS, 6, 1, 1, timing=True)
    given = _inputs({}, ("lengths", "mask"))
    if dtype != torch.float16:
        given["lengths"] = given["lengths"].to(dtype)
    given["times"] = torch.tensor([[3, 5, 4, 9, 100]]).expand(BATCH, -1).to(dtype)
    _assert_compiles(model, given)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ["plain", "every option"])
def test_other_sizes(name: str) -> None:
    """One graph for every batch and length."""
    options, beside = MODELS[name]
    model = rnam.RNAM(TERMS, 6, 2, 2, **options)
    compiled = _assert_compiles(model, _inputs(options, beside), dynamic=True)
    for batch, seq in ((7, 9), (5, 16)):
        given = _inputs(options, beside, batch, seq)
        torch.testing.assert_close(tuple(compiled(**given)), tuple(model(**given)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ["plain", "every option, members, lstm"])
def test_steps(name: str) -> None:
    options, beside = MODELS[name]
    model = rnam.RNAM(TERMS, 6, 2, 2, **options)
    given, states = _inputs(options, beside), [None, None]
    step = torch.compile(model.step, fullgraph=True)
    for t in range(3):
        now = {
            key: value if "static" in key else value[:, t] if "columns" in options or key == "times" else value[:, :, t]
            for key, value in given.items() if key != "lengths" and not (t and "static" in key)
        }  # fmt: skip
        with torch.no_grad():
            outputs = [call(state=state, **now) for call, state in zip((step, model.step), states, strict=True)]
        torch.testing.assert_close(outputs[0][:2], outputs[1][:2])
        states = [output[2] for output in outputs]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_training_loss() -> None:
    model, given = rnam.RNAM(TERMS, 6, 1, 2, missing=True), _inputs({}, ("mask",))
    weight, target = torch.rand(BATCH), torch.randn(BATCH, 1)

    def loss() -> Tensor:
        prediction, parts = model(**given)
        error = ((prediction - target).square().mean(-1) * weight).mean()
        return error + 0.1 * output_penalty(parts, weight) + 0.1 * concurvity(parts, weight)

    found = [torch.autograd.grad(call(), list(model.parameters())) for call in (torch.compile(loss), loss)]
    for (name, _), one, other in zip(model.named_parameters(), *found, strict=True):
        torch.testing.assert_close(one, other, msg=name)


FIRST = """
import torch, rnam
model, x = rnam.RNAM(2, 4, 1, 1), torch.zeros(2, 3, 4, 1)
print(*torch.compile(model, fullgraph=True, backend="aot_eager")(x).prediction.shape)
"""


def test_a_compiled_call_may_be_the_first_of_all() -> None:
    """What is imported at the first launch is imported while a graph is made."""
    run = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "3 1\n"), run.stderr
