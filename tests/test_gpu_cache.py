"""Compiling ahead of time for a GPU that is not there: keys, files and what is said of a cache of another Triton."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from rnam.backends import choice

if not choice.triton_installed():
    pytest.skip("the kernels need triton", allow_module_level=True)

from tests.gpu import cache, measured, shapes
from tests.gpu.stages import ROOT


def a_cache(folder: Path) -> Path:
    """As Triton writes it, with files that are not packed."""
    kernel = folder / "KEY"
    kernel.mkdir(parents=True)
    files = {"_k.json": "{}", "_k.cubin": "code", "_k.ptx": "text", "_k.source": "text"}
    for name, text in files.items():
        (kernel / name).write_text(text)
    group = {"child_paths": {name: str(kernel / name) for name in files}}
    (kernel / "__grp___k.json").write_text(json.dumps(group))
    (folder / "LAUNCHER").mkdir()
    (folder / "LAUNCHER" / "__triton_launcher.cpython-312-x86_64-linux-gnu.so").write_text("binary")
    return folder


def test_a_cache_is_found_where_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's groups hold absolute paths: those of the folder where it was made would be found nowhere."""
    monkeypatch.setattr(cache, "identity", lambda: {"triton": "3.6.0"})
    file, there = tmp_path / "cache.tar.xz", tmp_path / "there"
    made = cache.pack(a_cache(tmp_path / "here"), file)
    assert made["kernels"] == 1 and made["triton"] == "3.6.0"
    assert cache.unpack(file, there) == made
    group = json.loads((there / "KEY" / "__grp___k.json").read_text())["child_paths"]
    assert group["_k.cubin"] == str(there / "KEY" / "_k.cubin") and (there / "KEY" / "_k.cubin").read_text() == "code"
    assert cache.kernels(there) == 1 and cache.kernels(tmp_path / "nowhere") == 0
    with tarfile.open(file) as archive:
        assert {Path(name).name for name in archive.getnames()} == {
            "manifest.json", "_k.json", "_k.cubin", "__grp___k.json",
            "__triton_launcher.cpython-312-x86_64-linux-gnu.so",
        }  # fmt: skip


def test_what_has_to_be_the_same_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    here = cache.identity()
    assert set(here) == {"python", "triton", "triton's files", "ptxas", "architecture", "source"}
    assert cache.mismatches({**here, "kernels": 3}, here) == []
    other = here | {"triton": "3.0.0", "source": "other"}
    assert cache.mismatches(other, here) == [
        f"triton: 3.0.0 there, {here['triton']} here", f"source: other there, {here['source']} here"
    ]  # fmt: skip


def test_the_digest_is_of_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "ROOT", tmp_path)
    for name in ("kernels/deep/k.py", "benchmarks/protocol/copy_kernel.py", "rnam/other.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("1")
    before = cache.source()
    (tmp_path / "rnam/other.py").write_text("2")
    assert cache.source() == before
    (tmp_path / "kernels/deep/k.py").write_text("2")
    assert cache.source() != before


def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | environment
    line = [sys.executable, *arguments]
    return subprocess.run(line, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.compiled
def test_a_call_compiles_once_and_is_found_again(tmp_path: Path) -> None:
    """The copy's kernel, for sm_90: another process with the unpacked file compiles nothing."""
    file = tmp_path / "gpu-cache.tar.xz"
    done = run(["-m", "tests.gpu.cache", str(file), "--processes", "1", "--only", "copy"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kernels in" in done.stdout and "0 were not found again" in done.stdout
    manifest = cache.unpack(file, tmp_path / "there")
    assert manifest["kernels"] == 1 and manifest["architecture"] == "sm_90"
    assert cache.mismatches(manifest, cache.identity()) == []
    assert list((tmp_path / "there").glob("*/copy_kernel.cubin"))


@pytest.mark.compiled
def test_the_driver_says_sm_90_and_goes_away_again() -> None:
    from triton.runtime import driver

    before = driver._active
    with cache.installed():
        assert driver.active.get_current_target().arch == 90
    assert driver._active is before


def test_every_call_of_the_stages_is_compiled() -> None:
    """Made in a process of its own, since the shapes are chosen at import."""
    code = "from tests.gpu import ahead; print(*ahead.calls(), sep='\\n')"
    done = run(["-c", code], **{cache.AHEAD: "1"})
    assert done.returncode == 0, done.stderr
    names = done.stdout.splitlines()
    units = [f"{stage}/{u.shape}/{u.op}/{u.kind}" for stage, of in measured.UNITS.items() for u in of]
    assert set(units) <= set(names) and len(set(names)) == len(names)
    for group, count in (
        ("layer ", len(shapes._LAYERS)),
        ("scan ", len(shapes._SCANS)),
        ("linear ", len(shapes._LINEARS)),
    ):
        assert sum(name.startswith(group) for name in names) == count


def test_a_call_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison that fails behind the kernels is none: they did not run. One before them compiles nothing."""
    from triton.runtime import driver

    from tests.gpu import ahead

    def wrong() -> None:
        driver.active.get_current_stream()
        raise AssertionError

    def early() -> None:
        raise AssertionError

    def broken() -> None:
        raise RuntimeError("no such kernel\nand more")

    monkeypatch.setattr(ahead, "calls", lambda: {"wrong": wrong, "early": early, "broken": broken})
    reasons = [cache.compile_call(name)[2] for name in ("wrong", "early", "broken")]
    assert reasons == ["", "RuntimeError: it launched no kernel", "RuntimeError: no such kernel"]
