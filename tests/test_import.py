"""What `import rnam` does and does not do."""

import importlib
import pickle
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

import rnam

PROGRAM = """
import sys
import torch
before = set(sys.modules)
import torch

import rnam
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
assert not torch.cuda.is_initialized()
"""


def test_import_adds_nothing_to_torch() -> None:
    """So it takes no longer than importing torch, but for the package's own files."""
    out = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["rnam"]


def test_is_typed_and_has_its_version() -> None:
    assert (Path(rnam.__file__).parent / "py.typed").exists()
    assert metadata.version("rnam") == rnam.__version__


def test_requirements_are_torch_numpy_and_triton() -> None:
    required = [r for r in metadata.requires("rnam") or [] if "extra ==" not in r]
    assert sorted(r.split(">")[0] for r in required) == ["numpy", "torch", "triton"]


def test_public_names() -> None:
    assert set(rnam.__all__) == {
        "NAM",
        "RNAM",
        "Linear",
        "State",
        "minGRU",
        "minLSTM",
        "explain",
        "bootstrap_weights",
        "compile_ahead",
        "functional",
        "__version__",
        "set_backend",
        "get_backend",
        "plot",
        "regularizers",
    }
    assert "Panel" not in rnam.__all__  # `from rnam import *` works without pandas
    assert rnam.linear.Linear is rnam.Linear
    assert rnam.gru.minGRU is rnam.minGRU


MOVED = {
    "rnam.gru": "rnam.lstm",  # of the minLSTM
    "rnam.models.rnam": "rnam.model",
    "rnam.models.nam": "rnam.nam",
    "rnam.models.block": "rnam.block",
    "rnam.models.additive": "rnam.additive",
    "rnam.models.inputs": "rnam.inputs",
    "rnam.models.description": "rnam._description",
}


@pytest.fixture(autouse=True)
def _nobody_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for old in OLD:
        monkeypatch.setattr(sys.modules[f"rnam.{old}"], "_told", False)


OLD = {
    "lstm": "minLSTM",
    "model": "RNAM",
    "nam": "NAM",
    "block": "Block",
    "additive": "Additive",
    "inputs": "Columns",
    "visits": "read_visits",
    "streaming": "check_state",
    "_description": "Description",
}


@pytest.mark.parametrize("old", OLD)
def test_an_old_module_warns_once_and_names_the_new_one(old: str) -> None:
    module, name = importlib.import_module(f"rnam.{old}"), OLD[old]
    with pytest.warns(
        FutureWarning, match=rf"rnam\.{old} has moved to (rnam\.[\w.]+), .* import {name} from there"
    ) as told:
        found = getattr(module, name)
    new = re.search(r"moved to ([\w.]+),", str(told[0].message))
    assert new is not None
    assert found is getattr(importlib.import_module(new[1]), name)
    assert getattr(module, name) is found  # and no second warning, which would be an error
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        module.nothing  # noqa: B018
    assert not hasattr(module, "__path__")


def test_pickles_and_imports_of_0_2_find_what_has_moved() -> None:
    columns = [[0], [1, 2]]
    model = rnam.RNAM(2, 4, 1, 1, columns=columns, static_columns=[[0]], cell="minlstm")
    rnam.explain.describe(model, ["a", "b", "c"])
    text = pickle.dumps(model, protocol=0)
    for new, old in MOVED.items():
        assert f"c{new}\n".encode() in text
        text = text.replace(f"c{new}\n".encode(), f"c{old}\n".encode())
    with pytest.warns(FutureWarning, match=r"rnam\.\w+ has moved to rnam\.[\w.]+, .* save again what was pickled"):
        loaded = pickle.loads(text)
    assert type(loaded) is rnam.RNAM and type(loaded.blocks[0].gru) is rnam.minLSTM
    x, static = torch.randn(3, 5, 3), torch.randn(3, 1)
    assert torch.equal(loaded(x, static=static).prediction, model(x, static=static).prediction)
