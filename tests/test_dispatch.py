"""Which backend runs, how it is chosen, and what is said when a choice can't run."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import rnam
from rnam import info
from rnam.backends import blocks, cells, choice
from rnam.backends.calls import Recurrence
from rnam.functional import min_gru
from tests.support.assertions import assert_equal

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
X, W = torch.randn(2, 3, 5, 4), torch.randn(2, 4, 6)


def test_set_backend_and_back() -> None:
    before = rnam.get_backend()
    with rnam.set_backend("reference"):
        assert rnam.get_backend() == "reference"
        with rnam.set_backend("torch"):
            assert rnam.get_backend() == "torch"
        assert rnam.get_backend() == "reference"
    assert rnam.get_backend() == before
    rnam.set_backend("reference")
    assert rnam.get_backend() == "reference"
    rnam.set_backend(before)


def test_an_error_inside_leaves_the_backend_as_it_was() -> None:
    before = rnam.get_backend()
    with pytest.raises(KeyError), rnam.set_backend("reference"):
        raise KeyError
    assert rnam.get_backend() == before


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="name must be one of 'auto', 'triton', 'torch', 'reference', got 'cuda'"):
        rnam.set_backend("cuda")
    code = "import rnam"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"RNAM_BACKEND": "fast"},
        capture_output=True,
        text=True,
    )
    assert "RNAM_BACKEND must be one of 'auto', 'triton', 'torch', 'reference', got 'fast'" in run.stderr


def test_environment_variable() -> None:
    code = "import rnam; print(rnam.get_backend())"
    env = os.environ | {"RNAM_BACKEND": "reference"}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "reference"


@pytest.mark.parametrize(
    ("dtype", "device", "interpreted", "installed", "reason"),
    [
        (torch.float64, CPU, True, True, "the kernels read float32, bfloat16 and float16, not float64"),
        (torch.float32, CPU, True, False, "triton is not installed"),
        (torch.float32, CPU, False, True, "the tensors are on the CPU, which takes TRITON_INTERPRET=1"),
        (torch.float32, torch.device("meta"), True, True, "the tensors are on meta"),
        (torch.float16, CPU, True, True, ""),
        (torch.bfloat16, CUDA, True, True, ""),
    ],
)
def test_obstacles(
    dtype: torch.dtype,
    device: torch.device,
    interpreted: bool,
    installed: bool,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "_INTERPRETED", interpreted)
    monkeypatch.setattr(choice, "_TRITON", (3, 7) if installed else None)
    got = choice.obstacle(device, dtype)
    assert got.startswith(reason)
    assert bool(got) == bool(reason)
    with rnam.set_backend("triton"):
        if reason:
            with pytest.raises(RuntimeError, match="backend 'triton' can't run this call: " + got):
                choice.path(device, dtype)
            assert choice.explain(device, dtype)[0] == "none"
        else:
            assert choice.path(device, dtype) == choice.explain(device, dtype)[0] == "triton"
    with rnam.set_backend("reference"):
        assert choice.path(device, dtype) == choice.explain(device, dtype)[0] == "reference"


@pytest.mark.parametrize(
    ("capability", "version", "obstacle"),
    [
        ((7, 5), (3, 7), "compute capability 8.0"),
        ((8, 0), (3, 6), ""),
        ((9, 0), (3, 6), ""),
        ((10, 0), (3, 6), "triton #9871"),
        ((10, 0), (3, 7), ""),
        ((12, 0), (3, 10), ""),
    ],
)
def test_gpus(
    capability: tuple[int, int], version: tuple[int, int], obstacle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "_INTERPRETED", False)
    monkeypatch.setattr(choice, "_TRITON", version)
    device = SimpleNamespace(major=capability[0], minor=capability[1])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: device)
    got = choice.obstacle(CUDA, torch.float32)
    assert obstacle in got
    assert bool(got) == bool(obstacle)


@pytest.fixture
def rocm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that was built for AMD devices; one of them says that its compute capability is 9.4."""
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(choice, "_INTERPRETED", False)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(major=9, minor=4))


@pytest.mark.usefixtures("rocm")
def test_auto_takes_the_reference_on_amd() -> None:
    with rnam.set_backend("auto"):
        assert choice.path(CUDA, torch.float32) == "reference"
        assert choice.explain(CUDA, torch.float32) == ("reference", choice.UNPROVEN)
        assert choice.path(CPU, torch.float32) == "torch"


@pytest.mark.usefixtures("rocm")
def test_kernels_on_amd_are_a_choice_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="name 'triton': the kernels were never compared with the reference on an AMD"):
        chosen = rnam.set_backend("triton")
    with chosen:
        assert choice.path(CUDA, torch.float32) == "triton"
    monkeypatch.setenv("RNAM_BACKEND", "triton")
    with pytest.warns(UserWarning, match="RNAM_BACKEND 'triton': "):
        assert choice._from_environment() == "triton"


@pytest.mark.parametrize(
    ("distribution", "version"),
    [("triton", "3.7.1"), ("pytorch-triton-rocm", "3.4.0"), ("triton-xpu", "3.6.0+git1"), ("other", None)],
)
def test_triton_has_several_names(distribution: str, version: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(name: str) -> str | None:
        if name == distribution:
            return version
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", found)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert choice.triton_version() == (version or "0.0")
    assert choice._major_minor(version or "0.0") == ((3, int(version[2])) if version else (0, 0))


def test_an_explicit_choice_raises_with_the_reason() -> None:
    with rnam.set_backend("triton"), pytest.raises(RuntimeError, match="TRITON_INTERPRET=1"):
        min_gru(X, W)


def test_torch_is_for_the_cpu() -> None:
    meta = torch.device("meta")
    with rnam.set_backend("torch"):
        assert choice.path(CPU, torch.float64) == choice.path(meta, torch.float32) == "torch"
        with pytest.raises(RuntimeError, match="'torch' can't run this call: the tensors are on cuda"):
            choice.path(CUDA, torch.float32)
        assert choice.explain(CUDA, torch.float32)[0] == "none"


def test_auto_on_a_cpu() -> None:
    for backend in ("auto", "torch"):
        with rnam.set_backend(backend):
            got = min_gru(X, W)
        assert_equal("h and h_last", got, blocks.recurrence_forward(Recurrence(X, W), cells.CELLS["mingru"]))


# torch.func.jvp imports a part of torch that scripts decompositions
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_forward_mode_is_the_reference_s() -> None:
    """ "auto" takes it there by itself; an explicit choice raises."""
    tangents = (torch.randn_like(X), torch.randn_like(W))

    def function(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return min_gru(x, w)[0]

    with rnam.set_backend("reference"):
        expected = torch.func.jvp(function, (X, W), tangents)
    with rnam.set_backend("auto"):
        got = torch.func.jvp(function, (X, W), tangents)
    assert_equal("value and tangent", got, expected)
    with rnam.set_backend("torch"), pytest.raises(NotImplementedError, match="the backend 'reference' has"):
        torch.func.jvp(function, (X, W), tangents)


def test_import_needs_no_triton() -> None:
    """Neither the package nor a layer on a CPU touches it; info says that it is missing."""
    program = """
import sys
sys.modules["triton"] = None
import importlib.util
import torch
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "triton" else find(name, *a)
import rnam
rnam.minGRU(3, 4)(torch.randn(3, 2, 5, 4))
from rnam import info
print("\\n".join(info.report(16, 16, "float32", torch.device("cpu"))))
"""
    env = {k: v for k, v in os.environ.items() if k != "RNAM_BACKEND"}
    run = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "triton not installed" in run.stdout
    assert "torch (backend 'auto' takes 'torch' for CPU tensors)" in run.stdout


def test_info() -> None:
    with rnam.set_backend("reference"):
        lines = info.report(16, 16, "float64", CPU)
    assert lines[0].startswith(f"rnam {rnam.__version__}, torch {torch.__version__}")
    assert "for float64 tensors on cpu: reference (backend 'reference' is set)" in lines
    assert [line.split()[0] for line in lines[-8:]] == [
        "min_gru",
        "min_lstm",
        "grouped_linear",
        "feed_forward",
        "min_gru_block",
        "min_gru_projected",
        "linear_scan",
        "log_scan",
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="what happens without a GPU")
@pytest.mark.parametrize("backend", ["auto", "triton"])
def test_info_without_the_device(backend: Any) -> None:
    """A reason, and no function, since none has a path; not the error of a torch without CUDA."""
    with rnam.set_backend(backend):
        lines = info.report(16, 16, "float32", CUDA)
    assert lines[-1].startswith("for float32 tensors on cuda:0: none (")


def test_info_of_a_call_that_can_not_run() -> None:
    with rnam.set_backend("triton"):
        lines = info.report(16, 16, "float64", CPU)
    assert lines[-1].startswith("for float64 tensors on cpu: none (backend 'triton'")


@pytest.mark.interpreter
def test_info_says_which_widths_are_one_kernel() -> None:
    def of(dim: int, hidden: int, function: str = "min_gru_block") -> str:
        with rnam.set_backend("triton"):
            return next(line for line in info.report(dim, hidden, "float32", CPU) if function in line)

    halves, layers = "min_gru, then feed_forward", "min_gru, then grouped_linear"
    assert of(16, 16).endswith(": one kernel forward, one back, or two where time is cut")
    assert of(32, 32).endswith(": one kernel forward, two back")
    assert of(33, 33).endswith(f": {halves}") and of(16, 32).endswith(f": {halves}")
    assert of(16, 32, "projected").endswith(f"one kernel where no gradient is recorded; else {layers}")
    assert of(16, 33, "projected").endswith(f": {layers}")


def test_info_says_which_widths_are_in_blocks() -> None:
    with rnam.set_backend("torch"):
        narrow, wide = (
            next(line for line in info.report(dim, dim, "float32", CPU) if " feed_forward " in line) for dim in (16, 17)
        )
    assert "rnam.backends.blocks" in narrow
    assert "LayerNorm and two linear layers" in wide


@pytest.mark.interpreter
def test_info_names_the_kernels() -> None:
    with rnam.set_backend("triton"):
        narrow, wide = (info.report(n, n, "float32", CPU) for n in (16, 100))
    assert "forward one fused kernel; backward one fused kernel" in narrow[-8]
    assert "forward a matrix product" in wide[-8]
    assert "batched matrix products" in wide[-6]
