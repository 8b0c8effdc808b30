"""Where compute-sanitizer may be: it comes with the CUDA toolkit, not with PyTorch or Triton."""

import glob
import importlib.util
import os
import shutil
from pathlib import Path

NAME = "compute-sanitizer"

# The folders of toolkits, as CUDA's installers and distributions have them.
FOLDERS = ("/usr/local/cuda*", "/opt/cuda*", "/opt/nvidia/cuda*", "/usr/lib/cuda", "/usr/lib/nvidia-cuda-toolkit")


def find() -> str | None:
    """The program's path: on PATH, beside nvcc, in the toolkit that the environment names, or in a usual folder."""
    on_path = shutil.which(NAME)
    if on_path:
        return on_path
    roots = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    nvcc = shutil.which("nvcc")
    if nvcc:
        roots.append(Path(nvcc).resolve().parents[1])
    roots += [Path(found) for pattern in FOLDERS for found in sorted(glob.glob(pattern), reverse=True)]
    roots += _packages()
    for root in roots:
        for folder in ("bin", "compute-sanitizer", "extras/compute-sanitizer", "."):
            program = root / folder / NAME
            if os.access(program, os.X_OK) and program.is_file():
                return str(program)
    return None


def _packages() -> list[Path]:
    """Folders of tools inside Python packages: Triton's, and those of CUDA's own."""
    found = []
    for package in ("triton", "nvidia"):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            found += [Path(place) / "backends/nvidia", *Path(place).glob("*")]
    return [p for p in found if p.is_dir()]


def command(program: str, tool: str, script: list[str]) -> tuple[str, ...]:
    """A script under a tool of the sanitizer; it ends with 1 where the tool finds an error."""
    # errors of API calls are left out: PyTorch asks the driver for what it may not have, and handles the answer
    options = ["--tool", tool, "--error-exitcode", "1", "--target-processes", "application-only"]
    if tool == "memcheck":
        options += ["--report-api-errors", "no"]
    return (program, *options, *script)
