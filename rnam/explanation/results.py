"""`Result`: what an explanation answers, as a table, as a file and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnam._files import replace
from rnam.explain._arrays import Floats
from rnam.explain._files import harmless

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Result", "band"]


class Result:
    """One answer of an explanation: a frozen dataclass of arrays, which a class for each kind derives from this one."""

    def frame(self) -> Any:
        """A pandas DataFrame of the answer, in long form."""
        raise NotImplementedError

    def to_csv(self, path: str | Path) -> None:
        """Write `frame` as CSV; a file that is there stays until all of the new one is written.

        Numbers are written to the last bit. A word that a spreadsheet would take for a formula has an apostrophe in
        front.

        Raises:
            ValueError: the path does not end in .csv.
            OSError: the file can't be written.
        """
        where = Path(path)
        if where.suffix != ".csv":
            raise ValueError(f"path must end in .csv, got {where.name}")
        frame = self.frame().reset_index(drop=True)
        for name in frame.columns:
            if frame[name].dtype.kind not in "fiubmM":
                frame[name] = [harmless(cell) if isinstance(cell, str) else cell for cell in frame[name]]
        frame.columns = [harmless(str(name)) for name in frame.columns]
        replace(where, frame.to_csv(index=False, lineterminator="\n").encode())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the answer on these axes, or on new ones, and return them.

        Raises:
            ImportError: matplotlib is missing.
        """
        raise NotImplementedError


def band(by_member: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, and mean minus and plus one standard deviation, over members (members, ...): the refit spread, which is no
    confidence interval. The latter two are NaN for one model."""
    mean = by_member.mean(0)
    if len(by_member) < 2:
        return mean, np.full(mean.shape, np.nan), np.full(mean.shape, np.nan)
    sd = by_member.std(0, ddof=1)
    return mean, mean - sd, mean + sd
