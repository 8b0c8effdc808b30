"""What --quick leaves out, and that it still has what the kernels are held to on a GPU; the precision of products."""

import argparse

import torch

from benchmarks import __main__ as cli
from benchmarks.commands import shaped
from benchmarks.protocol import shapes
from benchmarks.protocol.shapes import QUICK, SHAPES

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def units(device: torch.device) -> list[str]:
    options = argparse.Namespace(quick=True, device=device, rounds=7, before=None)
    vars(options).update(shape=[], dtype=[], provider=[], passes=[])
    return [name for command in cli.UNITS.values() for name in command(options)]


def test_a_quick_run_on_a_gpu_has_every_row_of_the_plan() -> None:
    found = units(CUDA)
    types = ("tf32", "float32", "bfloat16")
    layers = ("notebook", "mid", "p12", "electricity", "eeg-long", "eeg-wide", "long", "long-100k", "gru-13")
    assert {f"min_gru/{name}/{kind}" for name in layers for kind in types} <= set(found)
    assert {f"{op}_scan/scan-{n}/float32" for op in ("linear", "log") for n in (128, 1024, 8192, 65536)} <= set(found)
    assert {"linear/notebook/tf32", "linear/mid/tf32", "model/notebook/tf32", "overhead/stream-1"} <= set(found)
    assert "linear_scan/scan-128/tf32" not in found  # which has no products
    passes = lambda op, device: shaped.usual_passes(op, device, quick=True)
    assert passes("min_gru", CUDA) == ("forward", "backward", "both")
    assert passes("min_gru", CPU) == passes("model", CUDA) == ("forward", "both")


def test_the_rivals_are_there_where_the_plan_names_them() -> None:
    left = lambda name, first=True: shaped.left_out("min_gru", SHAPES[name], CUDA, first)
    assert "published-compiled" not in left("p12") and "nn.GRU" not in left("gru-13")
    assert left("p12")["associative-compiled"] == left("mid")["published-compiled"] == "not compiled in a quick run"
    assert left("long")["minGRU-pytorch"] == "1000000 steps are not run in a quick run"
    assert {"nn.GRU", "rnam-reference"} <= left("p12", False).keys() and "rnam-reference" not in left("p12")
    for name in QUICK["cuda"]["layer"]:
        for first in (True, False):
            base = "published-step" if SHAPES[name].state else "published"
            assert not {"rnam", "rnam-log", "rnam-masked", base} & set(left(name, first))
    assert "published-step" not in left("stream-64", False)
    scans = shaped.left_out("linear_scan", SHAPES["scan-65536"], CUDA, True)
    assert set(scans) == {"published-compiled", "associative-compiled"}


def test_on_a_cpu_nothing_is_compiled_and_all_else_runs() -> None:
    for command in ("layer", "linear", "scan", "model"):
        for op in shaped.OPS[command]:
            for name in shapes.QUICK["cpu"][command]:
                left = shaped.left_out(op, SHAPES[name], CPU, True)
                assert not [other for other in left if not other.endswith("-compiled")]
