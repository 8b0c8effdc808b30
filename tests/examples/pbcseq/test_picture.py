"""The picture shows what was measured, of the patient chosen by the rule."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas
import pytest

from examples.pbcseq import data, evaluation, picture
from tests.support.assertions import assert_equal


def shown(visits: Any, patient: int) -> int:
    """How many numbers stand in the picture: facts once, and the years since the visit before."""
    own = visits[visits["id"] == patient]
    static = [term.column for term in data.TERMS if term.static]
    return int(own[[*data.COLUMNS, "timing"]].notna().to_numpy().sum()) - len(static) * (len(own) - 1)


def test_the_picture_shows_every_measured_value_and_no_other(visits: Any, result: Any) -> None:
    patient = picture.choose(visits, result)
    own = visits[visits["id"] == patient]
    assert len(own) >= 7 and own["day"].diff().min() >= 120
    figure = picture.draw(visits, result, patient)
    risk, rows = figure.axes[:2]
    assert own[data.COLUMNS[:12]].isna().to_numpy().any(), "the chosen patient has gaps"
    assert len(rows.texts) == len(rows.patches) == shown(visits, patient)
    labels = [label.get_text() for label in rows.get_yticklabels()]
    assert sorted(labels) == sorted(f"{term.name}  ({term.unit})" for term in (*data.TERMS, data.TIMING))
    assert_equal("risk", risk.lines[1].get_xydata()[:, 1], result.probability[visits["id"] == patient])
    figure.savefig(io.BytesIO())
    for label in rows.get_yticklabels():
        assert label.get_window_extent().x0 >= figure.bbox.x0, label.get_text()


@pytest.mark.parametrize("which", ["idxmin", "idxmax"])
def test_anyone_can_be_drawn(visits: Any, result: Any, which: str) -> None:
    patient = int(getattr(visits.groupby("id").size(), which)())
    figure = picture.draw(visits, result, patient)
    figure.savefig(io.BytesIO())
    assert len(figure.axes[1].patches) == shown(visits, patient)


def test_where_nobody_has_enough_visits_the_largest_rise_is_chosen(small: Any) -> None:
    probability = np.array([0.1, 0.2, 0.3, 0.1, 0.9, 0.9, 0.2, 0.1, 0, 0.1, 0.2, 0.4])
    result = evaluation.OutOfFold(probability, pandas.DataFrame(), probability)
    assert picture.choose(small, result) == 2


def words(figure: Any) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def test_the_small_print_says_how_the_person_was_chosen_and_is_readable(visits: Any, result: Any) -> None:
    patient = picture.choose(visits, result)
    figure = picture.draw(visits, result, patient)
    assert "of those with at least 7 visits that are all at least 120 days apart" in words(figure)
    assert "Chosen" not in words(picture.draw(visits, result, patient % 312 + 1))

    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts]
    below = [axes.get_tightbbox() for axes in figure.axes]
    for text, box in zip(figure.texts, boxes, strict=True):
        assert text.get_fontsize() >= 10
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
        assert not [other for other in (*boxes, *below) if other is not box and box.overlaps(other)]
