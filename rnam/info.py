"""`python -m rnam.info`: versions, devices, and which path each function takes for a shape, and why."""

from __future__ import annotations

import argparse

import torch

from rnam._version import __version__
from rnam.backends import blocks, choice

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
FUNCTIONS = (
    "min_gru",
    "min_lstm",
    "grouped_linear",
    "feed_forward",
    "min_gru_block",
    "min_gru_projected",
    "linear_scan",
    "log_scan",
)
_APART = "LayerNorm and two linear layers"
_HALVES = "min_gru, then feed_forward"
_LAYERS = "min_gru, then grouped_linear"


def report(dim: int, hidden: int, dtype: str, device: torch.device) -> list[str]:
    """The lines that are printed."""
    lines = [f"rnam {__version__}, torch {torch.__version__}, triton {choice.triton_version()}"]
    lines.append(f"backend: {choice.get_backend()}; triton interpreted: {choice.interpreted()}")
    lines += [f"device: {name}" for name in _devices()]
    path, reason = choice.explain(device, DTYPES[dtype])
    lines.append(f"for {dtype} tensors on {device}: {path} ({reason})")
    if path == "none":
        return lines
    for function in FUNCTIONS:
        where = _kernel(function, dim, hidden, DTYPES[dtype]) if path == "triton" else _plain(function, dim, path)
        lines.append(f"  {function:17s} dim {dim}, hidden {hidden}: {where}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m rnam.info", description=__doc__)
    parser.add_argument("--dim", type=int, default=16, help="width of the input")
    parser.add_argument("--hidden", type=int, default=16, help="width of the state or output")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    print("\n".join(report(options.dim, options.hidden, options.dtype, torch.device(options.device))))


def _kernel(function: str, dim: int, hidden: int, dtype: torch.dtype) -> str:
    """In words, which of the kernels a width leads to."""
    import rnam.kernels as kernels

    if function == "min_gru":
        ways = {way: kernels.min_gru_is_fused(dim, hidden, dtype, way) for way in ("forward", "backward")}
        words = {True: "one fused kernel", False: "a matrix product, then one kernel for gates and scan"}
        return "; ".join(f"{way} {words[fused]}" for way, fused in ways.items())
    if function == "min_lstm":
        return "a matrix product, then one kernel for gates and scan"
    if function == "grouped_linear":
        return "one fused kernel each way" if kernels.linear_is_fused(dim, hidden) else "batched matrix products"
    if function == "feed_forward":
        return "one fused kernel each way" if kernels.feed_forward_is_fused(dim) else _APART
    if function == "min_gru_block":
        if dim != hidden or not kernels.block_is_fused(dim, dtype):
            return _HALVES
        one = kernels.block_backward_is_fused(dim, dtype)
        return "one kernel forward, one back, or two where time is cut" if one else "one kernel forward, two back"
    if function == "min_gru_projected":
        one = kernels.projected_is_fused(dim, hidden)
        return f"one kernel where no gradient is recorded; else {_LAYERS}" if one else _LAYERS
    return "one kernel each way, in three launches where there are few channels and many steps"


def _plain(function: str, dim: int, path: str) -> str:
    if function in ("min_gru_block", "min_gru_projected"):
        return _HALVES if function == "min_gru_block" else _LAYERS
    if path == "reference" or function not in ("min_gru", "min_lstm", "grouped_linear", "feed_forward"):
        return "rnam.reference"
    if function == "feed_forward" and not blocks.feed_forward_is_fused(dim):
        return _APART
    return "rnam.backends.blocks, in blocks that stay in cache"


def _devices() -> list[str]:
    if not torch.cuda.is_available():
        return [f"cpu, {torch.get_num_threads()} threads"]
    found = []
    for n in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(n)
        found.append(f"cuda:{n} {torch.cuda.get_device_name(n)}, compute capability {major}.{minor}")
    return found


if __name__ == "__main__":
    main()
