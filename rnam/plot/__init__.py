"""Pictures of what an additive model says, with matplotlib (extra `plot`).

Each function draws on the axes it is given, or on new ones, and returns them:
`rnam.plot.shape(table, "age").figure.savefig("age.png")`.
Colours are told apart with the common colour blindnesses, and lines by more than colour.
"""

from rnam.plot._style import BLACK, BLUE, GREY, ORANGE, diverging, grid
from rnam.plot.agreement import agreement
from rnam.plot.answers import response
from rnam.plot.bars import importance
from rnam.plot.curves import curve
from rnam.plot.lag_responses import lag_response
from rnam.plot.persons import person
from rnam.plot.ranges import ranges
from rnam.plot.reliability import calibration
from rnam.plot.shapes import shape
from rnam.plot.surfaces import surface
from rnam.plot.timelines import timeline

__all__ = [
    "BLACK", "BLUE", "GREY", "ORANGE", "agreement", "calibration", "curve", "diverging", "grid", "importance",
    "lag_response", "person", "ranges", "response", "shape", "surface", "timeline",
]  # fmt: skip
