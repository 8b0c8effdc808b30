"""Settings of the suite on the device. tests/conftest.py is not loaded there: it needs hypothesis."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

# cuBLAS is deterministic with a workspace of its own, which it asks for before it starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pytest
import torch

from tests.gpu.shapes import DEVICE, INTERPRETED

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "a line of JSON for each test of tests/gpu, as it ends; those that passed there before are left out"
    parser.addoption("--results", type=Path, help=text)


def pytest_configure(config: pytest.Config) -> None:
    if INTERPRETED:
        # numpy, which runs the kernels then, warns of what they handle: -inf - -inf and log2(0) in lanes that a
        # `where` leaves out, and exponentials that overflow to the infinity that is meant
        for message in ("invalid value encountered", "divide by zero encountered", "overflow encountered"):
            config.addinivalue_line("filterwarnings", f"ignore:{message}:RuntimeWarning")


def passed_before(file: Path | None) -> set[str]:
    """The tests whose last line in a file of results says that they passed."""
    if not file or not file.exists():
        return set()
    last = {line["test"]: line["outcome"] for line in map(json.loads, file.read_text().splitlines())}
    return {test for test, outcome in last.items() if outcome == "passed"}


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and passed_before(session.config.getoption("results", None)):
        session.exitstatus = pytest.ExitCode.OK


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    before = passed_before(config.getoption("results", None))
    done = [item for item in items if item.nodeid in before]
    if done:
        config.hook.pytest_deselected(items=done)
        items[:] = [item for item in items if item.nodeid not in before]
    asked = any(HERE in (path, *path.parents) for path in (Path(a.split("::")[0]).resolve() for a in config.args))
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.gpu)
        if INTERPRETED and not asked:
            item.add_marker(pytest.mark.skip(reason="the tiny form runs in tests/test_gpu_suite.py"))
        elif not INTERPRETED and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = yield
    file = item.config.getoption("results", None)
    if file and (report.when == "call" or report.outcome != "passed"):
        line = {"test": item.nodeid, "outcome": report.outcome, "seconds": report.duration}
        if report.failed:
            line["message"] = report.longreprtext[-2000:]
        with file.open("a") as out:
            out.write(json.dumps(line) + "\n")
    return report


@pytest.fixture(autouse=True)
def _clean_device() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()  # the large tensors of one test must fit after those of another


@pytest.fixture(autouse=True, scope="session")
def _fast_interpreter() -> Iterator[None]:
    if not INTERPRETED:
        yield
        return
    from tests.support.interpreter import vectorised_scans

    with vectorised_scans():
        yield


@pytest.fixture
def nan_buffers() -> Iterator[None]:
    """Every buffer that a launcher allocates starts as NaN: torch fills it so when deterministic algorithms are on."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(1, device=DEVICE).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
