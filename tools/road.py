"""Counts the road from a layer to its kernel: `TRITON_INTERPRET=1 python -m tools.road`.

hops     functions of the project on the stack when the kernel is launched, the layer's `forward` the first
files    files of the project that the call entered before the launch, and their lines
frames   Python functions that the call entered before the launch, those of torch included
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch

ROOT = Path(__file__).parents[1]


def count(call: Any, launch: tuple[str, str]) -> dict[str, int]:
    """The counts of `call` up to the first entry of a function (file name, name)."""
    files: set[str] = set()
    frames, hops = 0, 0

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal frames, hops
        if event != "call" or hops:
            return
        code = frame.f_code
        if (Path(code.co_filename).name, code.co_name) == launch:
            above: FrameType | None = frame
            while above is not None:
                hops += _ours(above.f_code.co_filename) and above.f_code.co_name != "<module>"
                above = above.f_back
            return
        frames += 1
        if _ours(code.co_filename):
            files.add(code.co_filename)

    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(None)
    lines = sum(len(Path(file).read_text().splitlines()) for file in files)
    return {"hops": hops, "files": len(files), "lines": lines, "frames": frames}


def _ours(file: str) -> bool:
    path = Path(file)
    return any(path.is_relative_to(ROOT / folder) for folder in ("rnam", "kernels"))


def main() -> None:
    import rnam

    layer = rnam.minGRU(3, 8)
    x, state, mask = torch.randn(3, 2, 20, 8), torch.randn(3, 2, 1, 8), torch.rand(3, 2, 20) > 0.5
    for gradient in (True, False):
        with rnam.set_backend("triton"), torch.set_grad_enabled(gradient):
            for _ in range(2):
                layer(x, state, mask=mask)  # imports, caches, and the plan of the launcher
            counts = count(lambda: layer(x, state, mask=mask), ("launch.py", "execute"))
        counted = ", ".join(f"{value} {name}" for name, value in counts.items())
        print(f"{'with' if gradient else 'without'} a gradient: {counted}")


if __name__ == "__main__":
    main()
