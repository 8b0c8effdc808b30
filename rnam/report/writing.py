"""`write`: an explanation as one page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnam import _checks
from rnam._files import replace
from rnam._version import __version__
from rnam.report import overview, page, people, terms

if TYPE_CHECKING:
    from rnam.explanation import Explanation

__all__ = ["refuse_path", "write"]


def write(
    explanation: Explanation, path: str | os.PathLike[str], *, title: str | None = None,
    ids: Sequence[Any] | None = None, lags: int | None = None, overwrite: bool = False, verbose: int = 0,
) -> None:  # fmt: skip
    """`Explanation.report`, which has the documentation."""
    where = refuse_path(path, overwrite)
    if title is not None and not isinstance(title, str):
        raise TypeError(f"title must be a str, got {type(title).__name__}")
    if lags is not None:
        lags = _checks.whole_number("lags", lags)
    targets = ", ".join(explanation.reader.estimator.target_names_)
    chosen = people.choose(explanation, ids)
    data = {
        "title": f"{targets}: what the model says" if title is None else title,
        "version": __version__,
        **overview.about(explanation),
        "overview": overview.overview(explanation),
        "terms": terms.panels(explanation, lags, verbose),
        "people": people.visits(explanation, chosen),
    }
    replace(where, page.render(data).encode())


def refuse_path(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """The path of a page.

    Raises:
        ValueError: it does not end in .html.
        FileExistsError: it is there, and `overwrite` is False.
        FileNotFoundError, IsADirectoryError: its folder is not there; it is a folder.
    """
    _checks.boolean_flag("overwrite", overwrite)
    where = Path(path)
    if where.suffix != ".html":
        raise ValueError(f"path must end in .html, got {where.name}")
    if not where.parent.is_dir():
        raise FileNotFoundError(f"path must be in a folder that is there, got {where.parent}")
    if where.is_dir():
        raise IsADirectoryError(f"path must be a file, got the folder {where}")
    if where.exists() and not overwrite:
        raise FileExistsError(f"{where} is there; overwrite=True replaces it")
    return where
