"""`python -m tests.gpu.cache FILE`: compiles every launch of the stages for sm_90, without a GPU, into FILE (tar.xz).

Run it with the Python and the Triton of the GPU's machine; `python -m tests.gpu` unpacks the file there. The calls of
the stages are made as they are, with a driver in the place of CUDA's that says it is an sm_90 device and launches
nothing, so that Triton finds the keys that it will ask for on the device.

A key is made from Triton's own files, the version of ptxas, the architecture, the source of the kernel and of what it
calls, with line numbers, the types, constants and alignments of its arguments, and the compiler's options. So these
have to be equal: the wheel of Triton, which is one for each Python, and the tree. `identity` names them, FILE holds
them, and `mismatches` says which differ. With gcc the C launchers that Triton 3.6 makes for each signature are in FILE
too.
"""

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.gpu.stages import ROOT

ARCHITECTURE = 90
MOST_BYTES = 64 << 20
MANIFEST = "manifest.json"
# Says to `tests.gpu.shapes` that the device is a CPU, at full sizes.
AHEAD = "RNAM_GPU_AHEAD"
# Triton links launchers with the library in this folder.
LIBCUDA = "TRITON_LIBCUDA_PATH"
# A group has the paths of a kernel's files; Triton reads no other file of a kernel than these.
GROUP = "__grp__*.json"


def identity() -> dict[str, str]:
    """The things that are equal where a cache is made and where its kernels are found."""
    import triton
    from triton.backends.nvidia.compiler import get_ptxas_version
    from triton.runtime.cache import triton_key

    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "triton": triton.__version__,
        "triton's files": hashlib.sha256(triton_key().encode()).hexdigest(),
        "ptxas": get_ptxas_version(ARCHITECTURE).strip().splitlines()[-1],
        "architecture": f"sm_{ARCHITECTURE}",
        "source": source(),
    }


def source() -> str:
    """A digest of the files that have kernels."""
    digest = hashlib.sha256()
    for path in sorted([*ROOT.glob("kernels/**/*.py"), ROOT / "benchmarks/protocol/copy_kernel.py"]):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def mismatches(made: dict[str, str], here: dict[str, str]) -> list[str]:
    """The differences in words; none where every kernel of the cache will be found."""
    return [f"{name}: {made.get(name)} there, {value} here" for name, value in here.items() if made.get(name) != value]


def kernels(folder: Path) -> int:
    """How many compiled kernels a cache has."""
    return sum(1 for _ in folder.glob(f"*/{GROUP}"))


class _Nothing:
    """A module of C functions that do nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class Driver:
    """A driver of Triton's for an sm_90 device that is not there: it compiles, loads nothing and launches nothing.

    `launches` counts how often Triton asks for a stream, which it does for each launch.
    """

    def __init__(self, launcher: type) -> None:
        self.launches = 0
        self.launcher_cls = launcher
        self.utils = SimpleNamespace(
            load_binary=lambda *_: (1, 2, 0, 0, 1024),
            get_device_properties=lambda _: {"max_shared_mem": 232448, "multiprocessor_count": 132},
            unload_module=lambda _: None,
            launch=lambda *_: None,
            build_signature_metadata=lambda *_: None,
        )

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", ARCHITECTURE, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        self.launches += 1
        return 0


class _Silent:
    """A launcher that is not made: where there is no C compiler, Triton makes it on the GPU's machine."""

    def __init__(self, src: Any, metadata: Any) -> None:
        pass

    def __call__(self, *arguments: Any) -> None:
        pass


@contextlib.contextmanager
def installed() -> Iterator[Driver]:
    """While it is open Triton compiles for sm_90 and launches nothing; gives the driver."""
    from triton.backends.nvidia import driver as nvidia
    from triton.runtime import build, driver

    before, load = driver._active, build._load_module_from_path
    launcher: type = _Silent
    if LIBCUDA in os.environ:
        # what is made is packed and not loaded: it needs the CUDA driver
        build._load_module_from_path = lambda name, path: _Nothing()
        nvidia.CudaUtils()
        launcher = nvidia.CudaLauncher
    driver.set_active(Driver(launcher))
    try:
        yield driver.active
    finally:
        build._load_module_from_path, driver._active = load, before
        if "instance" in vars(nvidia.CudaUtils):
            del nvidia.CudaUtils.instance


def compiles_c() -> bool:
    """True if Triton's C launchers can be made here."""
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return shutil.which("gcc") is not None and header.exists()


def stub_libcuda(folder: Path) -> None:
    """An empty libcuda.so.1 to link the launchers with, which find the real one where they run."""
    folder.mkdir(parents=True, exist_ok=True)
    line = ["gcc", "-shared", "-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1"), "-x", "c", os.devnull]
    subprocess.run(line, check=True)


def compile_call(name: str) -> tuple[str, float, str]:
    """Makes one call of the stages; its name, the seconds, and why it failed, if it did."""
    from tests.gpu import ahead, launchers

    start = time.monotonic()
    reason = ""
    try:
        with installed() as driver, launchers.on_cpu_tensors():
            try:
                ahead.calls()[name]()
            except AssertionError as error:  # of a comparison, since no kernel ran
                if not driver.launches:
                    raise RuntimeError("it launched no kernel") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return name, time.monotonic() - start, reason


def compile_all(folder: Path, processes: int, chosen: str = "") -> list[str]:
    """Fills a cache with all calls, or those whose names have `chosen`; gives the names and reasons of what failed."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"TRITON_CACHE_DIR": str(folder), "TRITON_STORE_BINARY_ONLY": "1", AHEAD: "1"}
    if compiles_c():
        stub_libcuda(folder.parent / "libcuda")
        os.environ[LIBCUDA] = str(folder.parent / "libcuda")
    from tests.gpu import ahead  # after AHEAD is set

    names = [name for name in ahead.calls() if chosen in name]
    failed = []
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for done, (name, seconds, reason) in enumerate(pool.imap_unordered(compile_call, names), 1):
            print(f"{done}/{len(names)} {name}: {reason or f'{seconds:.1f} s'}", flush=True)
            failed += [f"{name}: {reason}"] if reason else []
    return failed


def pack(folder: Path, file: Path) -> dict[str, Any]:
    """Writes a cache to a file, each kernel as its binary and what Triton says of it; gives the manifest."""
    manifest = {**identity(), "kernels": kernels(folder), "folder": str(folder)}
    file.parent.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    wanted = [folder / MANIFEST, *sorted(p for p in folder.glob("*/*") if p.suffix in (".cubin", ".json", ".so"))]
    part = file.with_name(f"{file.name}.part")
    with tarfile.open(part, "w:xz") as archive:
        for path in wanted:
            archive.add(path, path.relative_to(folder))
    part.replace(file)
    return manifest


def unpack(file: Path, folder: Path) -> dict[str, Any]:
    """Unpacks a cache so that Triton finds it in `folder`, and gives its manifest. A group names its files by absolute
    paths, which are written anew."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file) as archive:
        archive.extractall(folder, filter="data")
    for path in folder.glob(f"*/{GROUP}"):
        group = json.loads(path.read_text())
        group["child_paths"] = {name: str(path.parent / name) for name in group["child_paths"]}
        path.write_text(json.dumps(group))
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return manifest


def check(file: Path, processes: int, chosen: str = "") -> int:
    """How many kernels the calls compile although they have the file, in another folder: 0 where all keys match."""
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room) / "cache"
        unpack(file, folder)
        before = kernels(folder)
        compile_all(folder, processes, chosen)
        return kernels(folder) - before


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.cache", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 1) // 2))
    parser.add_argument("--folder", type=Path, help="where it is compiled; default: beside FILE, kept for another run")
    parser.add_argument("--only", default="", metavar="TEXT", help="the calls whose names have this")
    options = parser.parse_args(arguments)
    file = options.file.resolve()
    # of other kernels another one, so that a file has none that are out of date
    folder = (options.folder or file.with_name("compiled") / source()[:12]).resolve() / "cache"
    failed = compile_all(folder, options.processes, options.only)
    manifest = pack(folder, file)
    size = file.stat().st_size
    made_again = check(file, options.processes, options.only)
    print(f"{manifest['kernels']} kernels in {file}, {size / 2**20:.1f} MiB; {made_again} were not found again")
    print(*failed, sep="\n")
    if size > MOST_BYTES:
        print(f"the file has more than {MOST_BYTES >> 20} MiB", file=sys.stderr)
    return int(bool(failed) or bool(made_again) or size > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
