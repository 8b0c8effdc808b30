"""The GPU suite where there is no GPU: its command, its report, and its checks in a tiny form in the interpreter."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rnam.kernels.common.launch import Launch
from tests.gpu import __main__ as command
from tests.gpu import joined, parity, report, sanitizer, shapes, short_run, stages, timings
from tests.gpu.stages import Stage
from tests.support.assertions import assert_norm_within, assert_within

ROOT = Path(__file__).parents[1]

MACHINE = {
    "device": "a device", "devices": 1, "capability": [9, 0], "memory_bytes": 1, "driver": "1.0", "python": "3.11",
    "torch": "2.11", "triton": "3.6", "cuda": "12.8", "commit": "abc", "changed_since": False,
}  # fmt: skip


def python(code: str, name: str, limit: float = 60.0) -> Stage:
    return Stage(name, (sys.executable, "-c", code), limit)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "tests.gpu", "--out", str(tmp_path / "out")]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "There is no CUDA GPU here, so nothing was run: this command takes one.\n"
    assert not done.stdout and not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_it_needs_nothing_beyond_torch_triton_numpy_and_pytest() -> None:
    """Collected with the packages of `make test` hidden; every test is skipped with the reason."""
    code = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("hypothesis", "tqdm", "matplotlib", "pandas", "sklearn"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""
    options = ["tests/gpu", "--confcutdir", "tests/gpu", "-q", "-rs", "-p", "no:cacheprovider"]
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # hypothesis has a plugin
    done = subprocess.run(
        [sys.executable, "-c", code, *options], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "there is no CUDA device" in done.stdout and "passed" not in done.stdout.splitlines()[-1]


def test_the_report_of_a_run(tmp_path: Path) -> None:
    """Stages that pass, fail, hang and are not there: all run, and the report says what became of each."""
    lines = [
        {"test": "t::a", "outcome": "passed", "seconds": 1.0},
        {"test": "t::b", "outcome": "failed", "seconds": 1.0, "message": "assert 1 == 2"},
        {"test": "t::c", "outcome": "skipped", "seconds": 0.0},
    ]
    (tmp_path / "tests.jsonl").write_text("\n".join(map(json.dumps, lines)))
    row = {"name": "min_gru forward", "dtype": "float32", "shape": [1, 2], "bytes": 8, "difference": 0.0}
    row |= {"warm_up": 1, "repetitions": 2, "kernel_ms": 1.0, "torch_ms": 2.0, "copy_ms": None}
    (tmp_path / "timings.json").write_text(json.dumps([row]))
    planned = [
        python("print('fine')", "good"),
        python("import sys; print('broken'); sys.exit(3)", "bad"),
        python("import time; print('begun', flush=True); time.sleep(60)", "slow", limit=0.5),
        Stage("absent", None, 1.0),
        python("print('still here')", "last"),
    ]
    start = time.monotonic()
    result = command.run_all(planned, MACHINE, tmp_path)
    assert time.monotonic() - start < 20
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written == result
    assert set(written) == {*MACHINE, "ok", "seconds", "stages", "tests", "timings"}
    assert [(s["name"], s["status"]) for s in written["stages"]] == [
        ("good", "passed"), ("bad", "failed"), ("slow", "timed out"), ("absent", "not found"), ("last", "passed"),
    ]  # fmt: skip
    for stage in written["stages"]:
        assert set(stage) == {"name", "status", "seconds", "limit", "command", "log"}
    assert (tmp_path / "bad.log").read_text() == "broken\n" and (tmp_path / "slow.log").read_text() == "begun\n"
    assert not written["ok"]
    assert written["tests"] == {
        "passed": 1, "failed": 1, "skipped": 1, "failures": [{"test": "t::b", "message": "assert 1 == 2"}],
    }  # fmt: skip
    assert written["timings"] == [row]
    text = report.table(written)
    assert "not found" in text and "1 passed, 1 failed, 1 skipped" in text and "wrong" in text


def test_ok_takes_every_stage(tmp_path: Path) -> None:
    good = python("", "good")
    assert command.run_all([good], MACHINE, tmp_path)["ok"]
    outcome = stages.run(good, tmp_path, time.monotonic() + 60)
    assert not report.assemble(MACHINE, [outcome], 2, tmp_path)["ok"]
    late = stages.run(python("import time; time.sleep(60)", "late"), tmp_path, time.monotonic())
    assert late.status == "timed out" and late.seconds < 5


def test_the_limits_fit_into_ten_minutes(tmp_path: Path) -> None:
    planned = command.plan(tmp_path)
    assert [s.name for s in planned] == ["pytest", "far", "short_run", "memcheck", "racecheck", "timings"]
    assert sum(s.limit for s in planned) <= command.TOTAL_SECONDS < 600


def test_a_path_comes_before_the_options_that_its_conftest_has(tmp_path: Path) -> None:
    """At its start pytest loads the conftest.py of the paths that it finds before the first option it does not know."""
    for stage in command.plan(tmp_path)[:2]:
        assert stage.command is not None and stage.command[3].startswith("tests/gpu")
        line = [*stage.command, "--collect-only", "-q", "-n0"]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("test_far.py" in done.stdout) == (stage.name == "far")


def test_the_sanitizer_is_found_in_a_toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sanitizer, "FOLDERS", ())
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    assert sanitizer.find() is None
    program = tmp_path / "toolkit" / "compute-sanitizer" / sanitizer.NAME
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr(sanitizer, "FOLDERS", (str(tmp_path / "tool*"),))
    assert sanitizer.find() == str(program)
    monkeypatch.setattr(sanitizer, "FOLDERS", ())
    nvcc = tmp_path / "toolkit" / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(nvcc.parent))
    assert sanitizer.find() == str(program)


@pytest.mark.interpreter
@pytest.mark.parametrize("case", shapes.layers()[::6] + shapes.layers()[16:17], ids=str)
def test_parity_of_layers(case: shapes.LayerCase) -> None:
    parity.check_layer(case)


@pytest.mark.interpreter
@pytest.mark.parametrize("case", shapes.scans()[:3], ids=str)
def test_parity_of_scans(case: shapes.ScanCase) -> None:
    parity.check_scan(case)


@pytest.mark.interpreter
@pytest.mark.parametrize("case", shapes.linears()[::3], ids=str)
def test_parity_of_linear(case: shapes.LinearCase) -> None:
    parity.check_linear(case)


@pytest.mark.interpreter
@pytest.mark.parametrize("case", joined.cases()[::4] + joined.cases()[12:13], ids=str)
def test_parity_of_what_is_joined(case: joined.JoinedCase) -> None:
    joined.check_joined(case)


@pytest.mark.interpreter
def test_a_wrong_kernel_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of result, off by a few of its budgets."""
    case = shapes.layers()[0]
    right = parity.layer_on_kernels
    for n in range(5):

        def wrong(case: shapes.LayerCase, given: parity.Inputs, n: int = n) -> tuple[torch.Tensor, ...]:
            return tuple(t * (1 + 2e-5) if i == n else t for i, t in enumerate(right(case, given)))

        monkeypatch.setattr(parity, "layer_on_kernels", wrong)
        with pytest.raises(AssertionError):
            parity.check_layer(case)


@pytest.mark.interpreter
def test_the_bound_of_tf32_holds_and_is_near() -> None:
    """Factors cut off at tf32, in float64, against exact ones."""
    given = parity.layer_inputs(shapes.LayerCase(F=2, B=8, T=64, precision="tf32", generic=True))
    exact = parity.layer_reference(given, torch.float64)[0]
    bound = parity.tf32_bound(given)
    given.x, given.weight = parity.tf32_exact(given.x), parity.tf32_exact(given.weight)
    cut = parity.layer_reference(given, torch.float64)[0]
    assert_within("h", cut, exact, bound)
    assert_norm_within("h", cut, exact, parity.TF32 * exact.norm())
    error = (cut - exact).abs()
    assert (error.amax(2) > bound.amax(2) / 20).any()


@pytest.mark.interpreter
@pytest.mark.parametrize("line", timings.LINES, ids=lambda line: line.name)
def test_a_line_of_the_timings(line: timings.Line) -> None:
    row = timings.measure(line, torch.float32, timer=lambda run: float(run() is not None))
    assert (row["kernel_ms"], row["torch_ms"], row["copy_ms"]) == (1.0, 1.0, 1.0)
    assert row["bytes"] == line.moves * 4 * 2 * 2 * 17 * 4


@pytest.mark.interpreter
@pytest.mark.slow
def test_the_short_run_launches_every_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = set()

    def run(launch: Launch, run: Callable[[Launch], None] = Launch.run) -> None:
        launched.add(launch.kernel.__name__)
        run(launch)

    monkeypatch.setattr(Launch, "run", run)
    short_run.main([])
    written = "".join(path.read_text() for path in (ROOT / "kernels").rglob("*.py"))
    assert launched == set(re.findall(r"def (_\w+_kernel)\(", written))


@pytest.mark.interpreter
@pytest.mark.slow
def test_processes_share_the_short_run(capsys: pytest.CaptureFixture[str]) -> None:
    short_run.main(["--processes", "2"])
    assert "each kernel ran" in capsys.readouterr().out


@pytest.mark.interpreter
@pytest.mark.slow
def test_the_whole_suite() -> None:
    line = [sys.executable, "-m", "pytest", "tests/gpu", "--confcutdir", "tests/gpu", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
