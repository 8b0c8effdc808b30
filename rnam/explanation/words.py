"""Ids and times as people read them."""

from __future__ import annotations

from typing import Any

import pandas

from rnam.panel.columns import plain

__all__ = ["called", "when"]


def called(names: Any, id: Any) -> str:
    """An id with what ids are called: "basin 103", "site 'fulda', day_end 1988-03-13"."""
    if not isinstance(id, tuple):
        return f"{names} {_told(id)}"
    return ", ".join(f"{name} {_told(part)}" for name, part in zip(names, id, strict=True))


def when(stamp: Any) -> str:
    """A time; a date without its hour where that is midnight."""
    time = plain(stamp)
    if isinstance(time, pandas.Timestamp) and time == time.normalize():
        return str(time.date())
    return f"{time:.10g}" if isinstance(time, float) else str(time)


def _told(part: Any) -> str:
    own = plain(part)
    return when(own) if isinstance(own, pandas.Timestamp) else repr(own)
