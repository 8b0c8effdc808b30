"""The GPU suite where there is no GPU: its command, its report, and its checks in a tiny form in the interpreter."""

import dataclasses
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
from tests.benchmarks.support import a_run
from tests.gpu import __main__ as command
from tests.gpu import cache, joined, measured, parity, plan, report, sanitizer, shapes, short_run, stages
from tests.gpu.plan import Planned
from tests.gpu.stages import Outcome, Stage
from tests.support.assertions import assert_norm_within, assert_within

ROOT = Path(__file__).parents[1]

MACHINE = {
    "device": "a device", "devices": 1, "capability": [9, 0], "memory_bytes": 1, "driver": "1.0", "python": "3.11",
    "torch": "2.11", "triton": "3.6", "cuda": "12.8", "commit": "abc",
}  # fmt: skip


def python(code: str, name: str, limit: float = 60.0) -> Stage:
    return Stage(name, (sys.executable, "-c", code), limit)


def plan_of(monkeypatch: pytest.MonkeyPatch, **codes: str | None) -> list[Planned]:
    """A plan of stages that run Python; None is a program that was not found, and `slow` has half a second."""
    commands = {name: None if code is None else (sys.executable, "-c", code) for name, code in codes.items()}
    limit = lambda name: 0.5 if name == "slow" else 10.0
    planned = [Planned(name, 1, limit(name), lambda _, c=c: c, "a test") for name, c in commands.items()]
    monkeypatch.setattr(plan, "PLAN", tuple(planned))
    return planned


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


def test_the_report_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages that pass, fail, hang and are not there: all run, and the report says what became of each."""
    lines = [
        {"test": "t::a", "outcome": "passed", "seconds": 1.0},
        {"test": "t::b", "outcome": "passed", "seconds": 1.0},
        {"test": "t::b", "outcome": "failed", "seconds": 1.0, "message": "assert 1 == 2"},
        {"test": "t::c", "outcome": "skipped", "seconds": 0.0},
    ]
    (tmp_path / plan.TESTS).write_text("\n".join(map(json.dumps, lines)))
    a_run().save(tmp_path / plan.ROWS)
    stages = plan_of(
        monkeypatch,
        good="print('fine')",
        bad="import sys; print('broken'); sys.exit(3)",
        slow="import time; print('begun', flush=True); time.sleep(60)",
        absent=None,
        last="print('still here')",
    )
    start = time.monotonic()
    result = command.run_all(stages, MACHINE, tmp_path, {})
    assert time.monotonic() - start < 20
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written == result
    assert set(written) == {*MACHINE, "ok", "seconds", "stages", "tests"}
    assert [(s["name"], s["status"]) for s in written["stages"]] == [
        ("good", "passed"), ("bad", "failed"), ("slow", "timed out"), ("absent", "not found"), ("last", "passed"),
    ]  # fmt: skip
    for stage in written["stages"]:
        assert set(stage) == {"name", "status", "seconds", "limit", "command", "log", "end", "compiled"}
    assert (tmp_path / "bad.log").read_text() == "broken\n" == written["stages"][1]["end"]
    assert written["stages"][2]["end"] == "begun\n"
    assert not written["ok"]
    assert written["tests"] == {
        "passed": 1, "failed": 1, "skipped": 1, "failures": [{"test": "t::b", "message": "assert 1 == 2"}],
    }  # fmt: skip
    text = report.table(written, tmp_path)
    assert "not found" in text and "1 passed, 1 failed, 1 skipped" in text and "wrong" in text


def test_a_run_goes_on_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What passed is not run again, and what failed comes after what has not run."""
    flag = tmp_path / "mended"
    broken = f"import pathlib, sys; sys.exit(not pathlib.Path({str(flag)!r}).exists())"
    stages = plan_of(monkeypatch, first="", broken=broken, third="")
    ran: list[str] = []
    run = command.stages.run
    monkeypatch.setattr(command.stages, "run", lambda stage, *rest: (ran.append(stage.name), run(stage, *rest))[1])
    command.run_all(stages[:2], MACHINE, tmp_path, {})
    assert ran == ["first", "broken"]
    ran.clear()
    flag.touch()
    outcomes = report.outcomes(tmp_path, MACHINE)
    assert [o.status for o in outcomes.values()] == ["passed", "failed"]
    assert command.run_all(stages, MACHINE, tmp_path, outcomes)["ok"]
    assert ran == ["third", "broken"]
    with pytest.raises(report.AnotherRunError, match="results of commit 'abc', not 'def'"):
        report.outcomes(tmp_path, MACHINE | {"commit": "def"})
    report.forget(tmp_path)
    assert report.outcomes(tmp_path, MACHINE) == {}


def test_two_commands_do_the_two_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each ends with 0 where its own stages passed; a third for all of them finds nothing left to do."""
    first, second = plan_of(monkeypatch, first="", second="")
    monkeypatch.setattr(plan, "PLAN", (first, dataclasses.replace(second, part=2)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(report, "machine", lambda: dict(MACHINE))
    line = ["--out", str(tmp_path), "--cache", str(tmp_path / "none")]
    assert command.main([*line, "--part", "1"]) == 0
    assert not json.loads((tmp_path / "gpu.json").read_text())["ok"]
    assert "2  second     not run" in capsys.readouterr().out
    assert command.main([*line, "--part", "2"]) == 0
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written["ok"] and [s["name"] for s in written["stages"]] == ["first", "second"]
    assert command.main(line) == 0
    assert json.loads((tmp_path / "gpu.json").read_text()) == written
    monkeypatch.setattr(report, "machine", lambda: MACHINE | {"device": "another"})
    assert command.main(line) == 2
    assert "results of device 'a device', not 'another'" in capsys.readouterr().err
    assert command.main([*line, "--again"]) == 0


def test_a_stage_begins_when_all_of_its_limit_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long, short = plan_of(monkeypatch, long="", short="")
    long = dataclasses.replace(long, limit=100.0)
    outcomes: dict[str, Outcome] = {}
    command.run_all([long, short], MACHINE, tmp_path, outcomes, seconds=50.0)
    assert list(outcomes) == ["short"]
    assert "long is left for another run: it may take 100 s" in capsys.readouterr().out
    late = stages.run(python("import time; time.sleep(60)", "late"), tmp_path, time.monotonic())
    assert late.status == "timed out" and late.seconds < 5


def test_the_plan(tmp_path: Path) -> None:
    """Two parts of less than seven minutes; every stage that measures is one that `measured` knows."""
    assert [(p.name, p.part) for p in plan.PLAN] == [
        ("anchor", 1), ("backward", 1), ("forms", 1), ("flags", 1), ("short_run", 1), ("memcheck", 1),
        ("parity", 2), ("racecheck", 2), ("host", 2), ("long", 2), ("masks", 2), ("others", 2), ("far", 2),
    ]  # fmt: skip
    for part in plan.PARTS:
        assert sum(planned.limit for planned in plan.of_part(part)) <= plan.PART_SECONDS < 7 * 60
    assert plan.of_part(None) == list(plan.PLAN)
    made = {planned.name: planned.stage(tmp_path) for planned in plan.PLAN}
    named = {stage.command[3] for stage in made.values() if stage.command and "tests.gpu.measured" in stage.command}
    assert named == set(measured.names())
    for stage in made.values():
        assert ("TRITON_CACHE_DIR", str(plan.COMPILED)) in stage.environment
    assert ("PYTORCH_NO_CUDA_MEMORY_CACHING", "1") in made["memcheck"].environment


def test_the_plan_is_documented() -> None:
    text = (ROOT / "docs" / "gpu.md").read_text()
    lines = [f"| {p.part} | {p.name} | {p.limit} | {p.answers} |" for p in plan.PLAN]
    assert [line for line in text.splitlines() if re.match(r"\| [12] \|", line)] == lines


@pytest.mark.long
def test_a_path_comes_before_the_options_that_its_conftest_has(tmp_path: Path) -> None:
    """At its start pytest loads the conftest.py of the paths that it finds before the first option it does not know."""
    for planned in plan.PLAN:
        line = planned.command(tmp_path)
        if line is None or "pytest" not in line:
            continue
        assert line[3].startswith("tests/gpu")
        done = subprocess.run(
            [*line, "--collect-only", "-q", "-n0"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("test_far.py" in done.stdout) == (planned.name == "far")


@pytest.mark.long
def test_tests_that_passed_are_left_out_of_another_run(tmp_path: Path) -> None:
    (line,) = (planned.command(tmp_path) for planned in plan.PLAN if planned.name == "far")
    collect = lambda: subprocess.run(
        [*line, "--collect-only", "-q"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    tests = [test for test in collect().stdout.splitlines() if "::" in test]
    outcomes = [("failed", tests[0]), ("failed", tests[1]), ("passed", tests[1]), *(("passed", t) for t in tests[2:])]
    write = lambda lines: (tmp_path / plan.TESTS).write_text(
        "".join(json.dumps({"test": test, "outcome": outcome}) + "\n" for outcome, test in lines)
    )
    write(outcomes)
    assert [test for test in collect().stdout.splitlines() if "::" in test] == tests[:1]
    write([*outcomes, ("passed", tests[0])])
    assert collect().returncode == 0  # where nothing is left, nothing has failed


@pytest.mark.parametrize(("manifest", "said"), [({}, ""), ({"triton": "2.0"}, "triton: 2.0 there, 3.6 here")])
def test_a_cache_says_whether_it_will_be_found(
    manifest: dict[str, str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = {"triton": "3.6", "python": "3.12"}
    monkeypatch.setattr(cache, "identity", lambda: here)
    monkeypatch.setattr(cache, "unpack", lambda file, folder: {**here, "kernels": 7, **manifest})
    file = tmp_path / "cache.tar.xz"
    assert command.prepare(file) == {"cache": None, "cache_mismatches": []}
    file.touch()
    found = command.prepare(file)
    assert found == {"cache": 7, "cache_mismatches": [said] if said else []}
    out = capsys.readouterr().out
    assert "7 compiled kernels" in out
    assert said in out if said else "not be found" not in out


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
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.long if case.log else []) for case in shapes.scans()[:3]], ids=str
)
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
