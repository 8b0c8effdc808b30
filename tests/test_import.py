"""What `import rnam` does and does not do."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import rnam

PROGRAM = """
import sys
import torch
before = set(sys.modules)
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
        "minGRU",
        "minLSTM",
        "explain",
        "bootstrap_weights",
        "functional",
        "__version__",
        "set_backend",
        "get_backend",
        "plot",
        "regularizers",
    }
    assert rnam.linear.Linear is rnam.Linear
    assert rnam.gru.minGRU is rnam.minGRU
