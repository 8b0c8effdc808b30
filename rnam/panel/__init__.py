"""People with visits from a table: `rnam.Panel`.

pip install 'rnam[sklearn]'

panel = rnam.Panel.from_frame(df, id="id", time="day", values=["bili", "albumin"], target="died")
train, valid, test = panel.split([.6, .2, .2], seed=0)

`rnam.panel.panel`       `Panel`: constructors and operations
`rnam.panel.contents`    what a panel shows
`rnam.panel.schema`      roles, names, units and levels of its columns
`rnam.panel.storage`     its arrays
"""

from __future__ import annotations

try:
    import pandas  # noqa: F401
except ImportError as error:
    raise ImportError("rnam.Panel needs pandas, which is not installed: pip install 'rnam[sklearn]'") from error

from rnam.panel.panel import Panel

__all__ = ["Panel"]
