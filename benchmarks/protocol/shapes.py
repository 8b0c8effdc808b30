"""The named shapes, and the rule by which one that does not fit the machine is made smaller."""

import dataclasses
import itertools
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """`terms` networks on `batch` sequences of `steps` steps, `dim` wide outside and `hidden` inside.

    `widths` are those of a chain of linear layers with relu between, and (dim, hidden) for a single one. `state` says
    that the work starts from a state. `note` says what was made smaller and is empty where nothing was.
    """

    name: str
    terms: int
    batch: int
    steps: int
    dim: int
    hidden: int
    widths: tuple[int, ...] = ()
    state: bool = False
    note: str = ""

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of each layer of the chain."""
        widths = self.widths or (self.dim, self.hidden)
        return tuple(itertools.pairwise(widths))

    @property
    def elements(self) -> int:
        """Numbers in the widest tensor of the work."""
        return self.terms * self.batch * self.steps * max(self.dim, self.hidden, *self.widths)

    @property
    def sizes(self) -> str:
        return " x ".join(map(str, (self.terms, self.batch, self.steps, self.widths or self.hidden)))


_ALL = (
    Shape("notebook", 8, 128, 1024, 8, 8),
    Shape("mid", 64, 128, 48, 32, 32),
    Shape("p12", 37, 512, 48, 16, 16),
    Shape("mimic-cw", 17, 8, 48, 16, 16),
    Shape("electricity", 321, 32, 168, 16, 16),
    Shape("traffic", 862, 32, 168, 16, 16),
    Shape("eeg-long", 64, 16, 3000, 16, 16),
    Shape("wide", 10000, 512, 1, 16, 16),
    Shape("stream-1", 37, 1, 1, 16, 16, state=True),
    Shape("stream-64", 37, 64, 1, 16, 16, state=True),
    Shape("long", 1, 1, 1_000_000, 64, 64),
    Shape("long-100k", 1, 1, 100_000, 64, 64),  # a tenth of it, to see whether time is linear
    Shape("big", 1, 64, 4096, 512, 512),
    Shape("few-rows", 1, 8, 4096, 256, 256),
    Shape("eeg-wide", 64, 16, 3000, 32, 32),  # width 32 whose rows are pieces of time
    Shape("gru-13", 1, 64, 1000, 10, 100),
    Shape("nam-ens", 600, 1024, 1, 1, 1, widths=(1, 64, 64, 32, 1)),
    *(Shape(f"scan-{steps}", 1, 8, steps, 1536, 1536) for steps in (128, 1024, 8192, 65536)),
)

SHAPES = {shape.name: shape for shape in _ALL}

_SCANS = tuple(name for name in SHAPES if name.startswith("scan-"))
_RECURRENT = tuple(name for name in SHAPES if name not in (*_SCANS, "nam-ens"))
_OTHERS = ("electricity", "eeg-long", "eeg-wide", "stream-64", "long", "long-100k", "gru-13")

# What each subcommand times unless --shape says otherwise.
BY_COMMAND = {
    "layer": _RECURRENT,
    "linear": ("notebook", "mid", "p12", "wide", "nam-ens"),
    "scan": _SCANS,
    "model": ("notebook", "mid", "p12"),
    "memory": _RECURRENT,
}
QUICK = {
    "cpu": {
        "layer": ("notebook", "p12", "stream-64", "few-rows", "gru-13"),
        "linear": ("p12", "nam-ens"),
        "scan": ("scan-128", "scan-1024"),
        "model": ("notebook",),
        "memory": ("notebook", "p12"),
    },
    "cuda": {
        "layer": ("notebook", "mid", "p12", *_OTHERS),
        "linear": ("notebook", "mid", "p12", "wide", "nam-ens"),
        "scan": _SCANS,
        "model": ("notebook",),
        "memory": ("notebook", "p12"),
    },
}

# How many tensors of the widest size a piece of work may need at once. The published eager form keeps 18 of the size of
# h in a training step (1013 MiB at p12, where h has 55.5); inputs, gradients and the float64 oracle of some terms come
# on top. Its scan keeps 6, and a model of two blocks twice the layer's and those of the layers between.
# Halves are widened in most of them, and the oracle is float64.
TENSOR_BYTES = 4
TENSORS = {"min_gru": 32, "linear": 16, "linear_scan": 12, "log_scan": 12, "model": 64}

# Numbers in the widest tensor of a quick run: a pass of the published form over 2^19 takes about 50 ms on a CPU core. A
# GPU does a whole shape in less.
QUICK_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 30}


def fit(shape: Shape, room: int, most: int | None = None) -> Shape:
    """`shape`, or a smaller one: its widest tensor has at most `room` numbers (what fits the machine) and `most`.

    The batch is halved first, then the terms, then the steps, as that order changes least what bounds the time. Widths
    are never changed.
    """
    limit = room if most is None else min(room, most)
    least = {"batch": 8, "terms": 1, "steps": 1}
    small = shape
    while small.elements > limit and any(getattr(small, name) > least[name] for name in least):
        name = next(name for name in least if getattr(small, name) > least[name])
        small = dataclasses.replace(small, **{name: (getattr(small, name) + 1) // 2})
    sizes = [(name, getattr(shape, name), getattr(small, name)) for name in ("terms", "batch", "steps")]
    changed = ", ".join(f"{name} {before} -> {after}" for name, before, after in sizes if before != after)
    return dataclasses.replace(small, note=f"scaled down: {changed}") if changed else shape
