"""torch.export: programs with every option, at other sizes than they were made with, saved and loaded in a process that
knows of them by `import rnam` alone."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import rnam
from rnam.models.additive import Additive

TERMS = 3
COLUMNS = {"columns": [[0], [1, 2], [0, 3]]}
EVERY = COLUMNS | {
    "missing": True, "timing": True, "continuous": True, "timescales": (1.0, 9.0), "time_unit": 0.5,
    "memoryless_columns": [[3], [0, 1]], "static_columns": [[0], [1, 2]],
}  # fmt: skip

# options of the model, of the call, and which inputs come beside the first
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "plain": ({}, {}, ()),
    "lengths": ({}, {}, ("lengths",)),
    "mask": ({"missing": True}, {"return_sequence": True}, ("mask",)),
    "lstm": ({"cell": "minlstm"}, {}, ("lengths",)),
    "members": ({"members": 2}, {"return_members": True}, ("mask",)),
    "columns": (COLUMNS, {}, ("mask", "lengths")),
    "every option": (EVERY, {}, ("mask", "lengths", "times", "static", "static_mask")),
    "NAM": ({"missing": True, "members": 2}, {}, ("mask",)),
}


def _made(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "NAM":
        return rnam.NAM(TERMS, (6,), **MODELS[name][0]).eval()
    return rnam.RNAM(TERMS, 6, 2, 2, **MODELS[name][0]).eval()


def _inputs(name: str, batch: int, seq: int) -> tuple[tuple[Tensor], dict[str, Tensor]]:
    options, _, beside = MODELS[name]
    by_columns = "columns" in options or name == "NAM"
    shape = (batch, TERMS) if name == "NAM" else (batch, seq, 4) if by_columns else (TERMS, batch, seq)
    given = {
        "mask": torch.rand(shape) > 0.4,
        "lengths": torch.randint(0, seq + 1, (batch,)),
        "times": torch.rand(batch, seq).cumsum(1),
        "static": torch.randn(batch, 3),
        "static_mask": torch.rand(batch, 3) > 0.4,
    }
    return (torch.randn(shape if by_columns else (*shape, 1)),), {key: given[key] for key in beside}


def _program(name: str) -> torch.export.ExportedProgram:
    """With a batch and a length that may change."""
    options, call, beside = MODELS[name]
    args, given = _inputs(name, 4, 5)
    b, t = torch.export.Dim("b", min=2, max=512), torch.export.Dim("t", min=2, max=512)
    by_columns = "columns" in options
    own = {0: b} if name == "NAM" else {0: b, 1: t} if by_columns else {1: b, 2: t}
    shapes = {"mask": own, "lengths": {0: b}, "times": {0: b, 1: t}, "static": {0: b}, "static_mask": {0: b}}
    dynamic = {"input": own} | {key: shapes[key] for key in beside} | dict.fromkeys(call)
    return torch.export.export(_made(name), args, given | call, dynamic_shapes=dynamic)


LOAD = """
import sys, torch
{imports}
folder = sys.argv[1]
for name, (args, given, expected) in torch.load(folder + "/given.pt").items():
    got = torch.export.load(folder + f"/{{name}}.pt2").module()(*args, **given)
    torch.testing.assert_close(tuple(got), expected, msg=name)
    print(name, type(got).__name__)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved program for each model, with inputs of another size and what the model gives for them."""
    path = tmp_path_factory.mktemp("exported")
    kept = {}
    for name in MODELS:
        torch.export.save(_program(name), path / f"{name}.pt2")
        args, given = _inputs(name, 7, 9)
        given = given | MODELS[name][1]
        with torch.no_grad():
            kept[name] = args, given, tuple(_made(name)(*args, **given))
    torch.save(kept, path / "given.pt")
    return path


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_programs_of_every_option_are_loaded_in_another_process(folder: Path) -> None:
    code = LOAD.format(imports="import rnam")
    run = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split("\n")[:-1] == [f"{name} Additive" for name in MODELS]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.long
def test_a_program_is_what_it_was_in_its_own_process(folder: Path) -> None:
    for name in MODELS:
        program = torch.export.load(folder / f"{name}.pt2").module()
        args, given = _inputs(name, 2, 3)
        given = given | MODELS[name][1]
        got, expected = program(*args, **given), _made(name)(*args, **given)
        assert type(got) is Additive
        torch.testing.assert_close(tuple(got), tuple(expected), msg=name)


def test_the_output_is_a_tree_of_tensors() -> None:
    output = Additive(torch.zeros(2), torch.ones(3))
    leaves, spec = pytree.tree_flatten(output)
    assert [leaf is part for leaf, part in zip(leaves, output, strict=True)] == [True, True]
    text = pytree.treespec_dumps(spec)
    assert "rnam.Additive" in text  # which is in files, and stays
    again = pytree.tree_unflatten(leaves, pytree.treespec_loads(text))
    assert type(again) is Additive
    assert type(pytree.tree_map(torch.neg, output)) is Additive


class _Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = rnam.RNAM(TERMS, 4, 1, 1)

    def forward(self, input: Tensor) -> Tensor:
        return self.model.step(input)[0]


@pytest.mark.parametrize(
    ("make", "shape"),
    [(lambda: rnam.minGRU(TERMS, 4), (1, 4)), (lambda: rnam.RNAM(TERMS, 4, 1, 1), (1, 1)), (_Step, (1,))],
    ids=("layer", "model", "step"),
)
def test_one_step_of_any_number_of_rows(make: Any, shape: tuple[int, ...]) -> None:
    """In eager mode few rows go another way than many."""
    module = make().eval()
    rows = {"input": {1: torch.export.Dim("b", min=2, max=1_000_000)}}
    program = torch.export.export(module, (torch.randn(TERMS, 8, *shape),), dynamic_shapes=rows)
    x = torch.randn(TERMS, 50_000, *shape)
    got, expected = program.module()(x), module(x)
    got, expected = (y if isinstance(y, Tensor) else y[0] for y in (got, expected))
    torch.testing.assert_close(got, expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    "make", [lambda: rnam.minGRU(2, 4), lambda: rnam.RNAM(2, 8, 1, 1, in_dim=4)], ids=("layer", "model")
)
@pytest.mark.parametrize("seq", [1, 5])
def test_a_trace_of_torch_jit(make: Any, seq: int) -> None:
    module, x = make().eval(), torch.randn(2, 3, seq, 4)
    traced = torch.jit.trace(module, (x,), check_trace=False)
    torch.testing.assert_close(tuple(traced(x)), tuple(module(x)))
