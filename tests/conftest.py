"""Settings of the whole run, and the two processes that it takes.

Triton reads TRITON_INTERPRET once, when it is imported, and compiles nothing in such a process. So tests
marked `interpreter` run where it is 1, those marked `compiled` where it isn't, and `make test` runs both.
In the interpreter's process the tests of the layers and the model run on the kernels in float32 and
float16: there "auto" treats the CPU as it treats a GPU. (bfloat16 stays on the reference, because the
interpreter truncates to it where a GPU rounds; tests/kernels has bounds for that.) Programs of a launch run
in a shuffled order there, and none may touch what another one writes.
"""

from collections.abc import Iterator

import hypothesis
import pytest
import torch

import rnam
from rnam.backends import choice

# the same examples every time, without a deadline
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("fixed")

# tensors are small here: two threads wait for each other longer than they compute
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """A failure comes back: what a test draws does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(params=["torch", "reference"])
def backend(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each backend that takes float64 tensors on a CPU, in turn."""
    with rnam.set_backend(request.param):
        yield


def pytest_configure(config: pytest.Config) -> None:
    if choice.interpreted():
        # numpy, which runs the kernels here, warns of what they handle: -inf - -inf and log2(0) in lanes that
        # a `where` then leaves out, and exponentials that overflow to the infinity that is meant
        for what in ("invalid value encountered", "divide by zero encountered", "overflow encountered"):
            config.addinivalue_line("filterwarnings", f"ignore:{what}:RuntimeWarning")
        # triton 3.6 takes the int of an array of one element (and so needs numpy before 2.4, where that ends)
        config.addinivalue_line("filterwarnings", "ignore:Conversion of an array with ndim:DeprecationWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker, wanted in (("interpreter", True), ("compiled", False)):
            if item.get_closest_marker(marker) and wanted != choice.interpreted():
                how = "1" if wanted else "unset"
                item.add_marker(pytest.mark.skip(reason=f"{marker} tests need TRITON_INTERPRET={how}"))


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
