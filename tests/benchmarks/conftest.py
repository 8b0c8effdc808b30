"""Shapes so small that every command ends in a second."""

import pytest

from benchmarks.commands import accuracy, overhead
from benchmarks.protocol import anchor, shapes
from benchmarks.protocol.shapes import Shape
from benchmarks.providers import registry

TINY = {
    "p12": Shape("p12", 2, 3, 10, 4, 4),
    "notebook": Shape("notebook", 2, 3, 12, 4, 4),
    "nam-ens": Shape("nam-ens", 2, 3, 1, 1, 1, widths=(1, 4, 3, 1)),
    "scan-128": Shape("scan-128", 1, 2, 12, 6, 6),
}


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, shape in TINY.items():
        monkeypatch.setitem(shapes.SHAPES, name, shape)
    usual = {"layer": "p12", "linear": "nam-ens", "scan": "scan-128", "model": "notebook", "memory": "p12"}
    monkeypatch.setitem(shapes.QUICK, "cpu", {command: (name,) for command, name in usual.items()})
    monkeypatch.setattr(anchor, "SIZES", {"cpu": (1000, 3000)})
    monkeypatch.setattr(accuracy, "LENGTHS", (100, 300))
    monkeypatch.setattr(overhead, "SAMPLES", 2)
    monkeypatch.setattr(overhead, "STEPS", overhead.STEPS[:2])
    names = ("rnam", "rnam-reference", "rnam-log", "published", "baddbmm", "minGRU-pytorch")
    for op, found in list(registry.REGISTRY.items()):
        monkeypatch.setitem(registry.REGISTRY, op, {n: p for n, p in found.items() if n in names})
