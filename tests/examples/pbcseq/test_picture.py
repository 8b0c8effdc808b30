"""The picture shows what was measured, of the patient chosen by the rule."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from examples.pbcseq import data, evaluation, picture


def test_the_picture_shows_every_measured_value_and_no_other(people, trained):
    settings, made, progress = trained
    result = evaluation.out_of_fold(people, made, settings, progress, torch.device("cpu"))
    person = picture.choose(people, result)
    visits = people.length[person]
    assert visits >= 7
    assert np.diff(people.day[person, :visits]).min() >= 120
    figure = picture.draw(people, result, person)
    risk, rows = figure.axes[:2]
    measured = np.isfinite(people.values[:, person])
    assert not measured[:12, :visits].all(), "the chosen patient has gaps"
    assert len(rows.texts) == len(rows.patches) == measured.sum()
    labels = [label.get_text() for label in rows.get_yticklabels()]
    assert sorted(labels) == sorted(f"{term.name}  ({term.unit})" for term in data.TERMS)
    np.testing.assert_array_equal(risk.lines[1].get_xydata()[:, 1], result.probability[person, :visits])
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize("shortest", [True, False])
def test_anyone_can_be_drawn(people, trained, shortest):
    settings, made, progress = trained
    result = evaluation.out_of_fold(people, made, settings, progress, torch.device("cpu"))
    person = int(people.length.argmin() if shortest else people.length.argmax())
    figure = picture.draw(people, result, person)
    figure.savefig(io.BytesIO())
    assert len(figure.axes[1].patches) == np.isfinite(people.values[:, person]).sum()


def test_where_nobody_has_enough_visits_the_largest_rise_is_chosen(small):
    probability = np.array([[0.1, 0.2, 0.3], [0.1, 0.5, 0.9], [0.9, 1, 1], [0.2, 0.1, 0], [0.1, 0.2, 0.4]])
    result = evaluation.OutOfFold(*[probability] * 6)
    assert picture.choose(small, result) == 1


def words(figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def test_the_small_print_says_how_the_person_was_chosen_and_is_readable(people, trained):
    settings, made, progress = trained
    result = evaluation.out_of_fold(people, made, settings, progress, torch.device("cpu"))
    person = picture.choose(people, result)
    figure = picture.draw(people, result, person)
    assert "of those with at least 7 visits that are all at least 120 days apart" in words(figure)
    assert "Chosen" not in words(picture.draw(people, result, (person + 1) % len(people.id)))

    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts]
    below = [axes.get_tightbbox() for axes in figure.axes]
    for text, box in zip(figure.texts, boxes, strict=True):
        assert text.get_fontsize() >= 10
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
        assert not [other for other in (*boxes, *below) if other is not box and box.overlaps(other)]
