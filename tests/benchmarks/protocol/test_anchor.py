"""One figure of copy bandwidth for a run."""

import re

import pytest
import torch

from benchmarks.protocol import anchor, measure
from benchmarks.protocol.anchor import AS_IT_IS, LEAST, PAGE, ROUNDED, TRITON, Anchor
from benchmarks.protocol.row import Row
from benchmarks.protocol.shapes import SHAPES
from benchmarks.protocol.work import make
from tests.benchmarks.support import CPU

CUDA = torch.device("cuda")


def told(monkeypatch: pytest.MonkeyPatch, gbps: dict[tuple[str, int], float | None]) -> list[tuple[int, torch.device]]:
    """Copies on a device that has this bandwidth for each way and size, or fails; gives what was asked for."""
    asked: list[tuple[int, torch.device]] = []
    ways = {size: [AS_IT_IS, ROUNDED, TRITON] for _, size in gbps}
    sizes = iter([size for size in dict.fromkeys(size for _, size in gbps) for _ in ways[size]])

    def timer(half: int, device: torch.device, copy: measure.Copy) -> tuple[measure.Timer, str]:
        asked.append((half, device))
        size = next(sizes)
        speed = gbps[ways[size].pop(0), size]
        if speed is None:
            raise RuntimeError("out of memory\nand more")
        return (lambda: (2 * half / speed / 1e9, None)), "as told"

    monkeypatch.setattr(measure, "copy_timer", timer)
    monkeypatch.setattr(anchor, "SIZES", {"cuda": tuple(dict.fromkeys(size for _, size in gbps))})
    monkeypatch.setattr(anchor, "device_name", lambda device: "NVIDIA H200")
    return asked


def test_it_is_the_fastest_of_all_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same size is slow as it is and fast rounded up; one that fails is named with its reason."""
    slow, other = 67_112_960, 10_000_000
    speeds = {
        (AS_IT_IS, slow): 2450.0, (ROUNDED, slow): 3750.0, (TRITON, slow): 3700.0,
        (AS_IT_IS, other): 2300.0, (ROUNDED, other): 3100.0, (TRITON, other): None,
    }  # fmt: skip
    asked = told(monkeypatch, speeds)
    found = anchor.take(CUDA, rounds=3)
    rounded = 17 * PAGE  # 33.6 MB are 16.002 pages of 2 MiB
    assert asked[:3] == [(slow // 2, CUDA), (rounded, CUDA), (rounded, CUDA)]
    assert found.gbps == pytest.approx(3750)
    assert found.reason == f"the fastest of 5 copies: {ROUNDED}, {2 * rounded / 1e6:.0f} MB"
    assert found.share == pytest.approx(3750 / 4800)
    assert str(found).startswith("copy bandwidth 3750 GB/s (the fastest of 5") and "78% of the data sheet" in str(found)
    assert [(c["way"], c.get("gbps")) for c in found.copies] == [
        (way, None if speed is None else pytest.approx(speed)) for (way, _), speed in speeds.items()
    ]
    assert found.copies[-1]["failed"] == "RuntimeError: out of memory"
    for copy in found.copies[:-1]:
        assert {"median_ms", "p20_ms", "p80_ms", "method", "bytes"} <= set(copy)


def test_a_device_that_copies_nothing_has_no_anchor(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, {(way, 10_000_000): None for way in (AS_IT_IS, ROUNDED, TRITON)})
    with pytest.raises(RuntimeError, match="no copy could be timed: RuntimeError: out of memory"):
        anchor.take(CUDA, rounds=1)


def test_a_cpu_copies_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchor, "SIZES", {"cpu": (1 << 16,)})
    monkeypatch.setattr(measure, "SAMPLE_SECONDS", 0.0)
    found = anchor.take(CPU, rounds=2)
    assert {c["way"] for c in found.copies} == {AS_IT_IS, ROUNDED}
    assert found.gbps == max(c["gbps"] for c in found.copies) > 0
    assert found.share is None and "the data sheet's bandwidth of this device is unknown" in str(found)


def test_the_sizes_are_those_of_named_shapes() -> None:
    """From 24 MB to 1 GB, of which some are no multiple of 4096 bytes in either half."""
    sizes = anchor.SIZES["cuda"]
    assert min(sizes) == LEAST and max(sizes) == 1_000_000_000
    assert make("min_gru", SHAPES["mid"], "float32", CPU).bytes("forward") in sizes
    assert {size // 2 % 4096 == 0 for size in sizes} == {True, False}


def test_it_is_written_and_read() -> None:
    whole = Anchor(3750.0, "a copy", 4800.0, ({"way": AS_IT_IS, "bytes": 8},))
    body = whole.as_json()
    assert body["share_of_data_sheet"] == pytest.approx(0.78125)
    assert anchor.from_json(body) == whole
    unknown = Anchor(10.0, "a copy")
    assert unknown.as_json()["data_sheet_gbps"] is None and anchor.from_json(unknown.as_json()) == unknown


def test_a_run_from_before_has_it_from_its_rows() -> None:
    """From the fastest copy that is larger than a cache; or a figure is given, with its reason."""
    moved = {"forward": 500_000_000, "backward": 1_000_000, "both": 100_000_000}
    shapes = {"min_gru/p12/tf32": {"bytes": moved}, "accuracy/1000": {}}
    speeds = {"forward": 3700.0, "backward": 9000.0, "both": 2500.0}
    rows = [Row("min_gru", "p12", "tf32", pass_, "copy", gbps=speed) for pass_, speed in speeds.items()]
    rows += [Row("min_gru", "p12", "tf32", "forward", "rnam", gbps=1850.0), Row("accuracy", "T=1000", "", "", "rnam")]
    found = anchor.of_run(rows, shapes, "NVIDIA H200", None, None)
    assert found == Anchor(3700.0, "the fastest of the run's 2 copies of 24 MB and more: 500 MB", 4800.0)
    found.rate(rows)
    assert rows[3].copy_fraction == pytest.approx(0.5) and rows[4].copy_fraction is None
    known = Anchor(3800.0, "measured", 4800.0, ({"way": AS_IT_IS},))
    assert anchor.of_run(rows, shapes, "NVIDIA H200", known, None) is known
    given = anchor.of_run(rows, shapes, "NVIDIA H200", known, (3750.0, "one was an outlier"))
    assert given == Anchor(3750.0, "one was an outlier", 4800.0, known.copies)
    assert anchor.of_run(rows[3:], shapes, "NVIDIA H200", None, None) is None


@pytest.mark.interpreter
def test_the_triton_copy_copies() -> None:
    pytest.importorskip("triton")
    from benchmarks.protocol import copy_kernel

    source = torch.randint(0, 256, (3 * copy_kernel.BLOCK_BYTES,), dtype=torch.uint8)
    target = torch.zeros_like(source)
    assert copy_kernel.copy(source, target) is target and torch.equal(source, target)
    with pytest.raises(ValueError, match="a multiple of 16384, got 5, 5"):
        copy_kernel.copy(source[:5], target[:5])


@pytest.mark.compiled
def test_the_triton_copy_moves_16_bytes_at_a_time() -> None:
    pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from benchmarks.protocol import copy_kernel

    types = {"source_ptr": "*i32", "target_ptr": "*i32", "BLOCK": "constexpr"}
    aligned = {(i,): [["tt.divisibility", 16]] for i in range(2)}
    source = ASTSource(copy_kernel.copy_kernel, types, {"BLOCK": copy_kernel.BLOCK}, aligned)
    made = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": copy_kernel.WARPS})
    accesses = re.findall(r"\b(ld|st)\.global\S*\.(v4\.b32)", made.asm["ptx"])
    assert [kind for kind, _ in accesses] == ["ld"] * 4 + ["st"] * 4  # all loads are under way before the first store
