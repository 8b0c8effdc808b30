"""Settings of the whole run, the two processes that it takes, and which tests are long.

Triton reads TRITON_INTERPRET once, when it is imported, and compiles nothing in such a process. So `make test`
starts pytest twice, and each run leaves out what is the other's:

    marker         TRITON_INTERPRET unset    TRITON_INTERPRET=1
    none           runs
    kernels        runs                      runs, on the kernels
    interpreter                              runs

In the interpreter's process "auto" treats the CPU as it treats a GPU: layers and models run on the kernels in
float32 and float16. (bfloat16 stays on the reference, because the interpreter truncates to it where a GPU rounds;
tests/kernels has bounds for that.) Programs of a
launch run in a shuffled order there, and none may touch what another one writes.

`make test` leaves out what is marked `long`, and `make test-all` runs nothing else. Compiled kernels, examples and
benchmarks are long without saying so; `long_in_interpreter` is long in the interpreter's process alone.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

import rnam
from rnam.backends import choice

TESTS = Path(__file__).parent
LONG = (TESTS / "examples", TESTS / "benchmarks")

# the same examples every time, without a deadline
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def _alone() -> None:
    """A failure comes back: what a test draws does not depend on the tests before it, nor do its threads."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # tensors are small here: two threads wait for each other longer than they compute
    if "torch._dynamo" in sys.modules:  # what was compiled before counts against a limit of the compiler
        torch.compiler.reset()
    plan = sys.modules.get("rnam.kernels.common.plan")
    if plan is not None:  # a test may change the constants that a plan was made with
        plan._plans.clear()


@pytest.fixture(params=["torch", "reference"])
def backend(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each backend that takes float64 tensors on a CPU, in turn."""
    with rnam.set_backend(request.param):
        yield


@pytest.fixture(scope="module")
def process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One process, which shards, gathers and waits for gradients as many do."""
    store = tmp_path_factory.mktemp("group") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def pytest_configure(config: pytest.Config) -> None:
    if choice.interpreted():
        # numpy, which runs the kernels here, warns of what they handle: -inf - -inf and log2(0) in lanes that
        # a `where` then leaves out, and exponentials that overflow to the infinity that is meant
        for what in ("invalid value encountered", "divide by zero encountered", "overflow encountered"):
            config.addinivalue_line("filterwarnings", f"ignore:{what}:RuntimeWarning")
        # triton 3.6 takes the int of an array of one element (and so needs numpy before 2.4, where that ends)
        config.addinivalue_line("filterwarnings", "ignore:Conversion of an array with ndim:DeprecationWarning")


def runs_here(item: pytest.Item) -> bool:
    """By its markers; the tests of tests/gpu choose for themselves."""
    if not choice.interpreted():
        return item.get_closest_marker("interpreter") is None
    marked = [item.get_closest_marker(name) for name in ("interpreter", "kernels")]
    return marked != [None, None] or item.path.is_relative_to(TESTS / "gpu")


def is_long(item: pytest.Item) -> bool:
    """Also where its own markers do not say so."""
    marker = "long_in_interpreter" if choice.interpreted() else "compiled"
    return item.get_closest_marker(marker) is not None or any(item.path.is_relative_to(folder) for folder in LONG)


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    others = [item for item in items if not runs_here(item)]
    items[:] = [item for item in items if runs_here(item)]
    config.hook.pytest_deselected(items=others)
    for item in filter(is_long, items):
        item.add_marker(pytest.mark.long)


@pytest.fixture(autouse=choice.interpreted())
def kernels_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from tests.support.interpreter import programs, vectorised_scans

    decide = choice.path

    def path(device: torch.device, dtype: torch.dtype) -> str:
        unfit = dtype == torch.bfloat16 and choice.get_backend() == "auto"
        return "reference" if unfit else decide(device, dtype)

    monkeypatch.setattr(choice, "_takes_kernels", lambda device: device.type in ("cpu", "cuda"))
    monkeypatch.setattr(choice, "path", path)
    with vectorised_scans(), programs(seed=0):
        yield
