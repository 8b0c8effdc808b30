"""The picture shows the truth, the estimates and the measured values of the person chosen by the rule."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.text import Text

from examples.plasmode import evaluation, picture
from examples.plasmode.data import Cohort
from examples.plasmode.truth import TERM


@pytest.fixture(scope="module")
def evaluated(trained):
    task, progress = trained
    result, recovery = evaluation.evaluate(task, progress.finished, torch.device("cpu"))
    return task, recovery, result


def test_the_picture_shows_truth_estimate_and_measured_values(evaluated):
    task, recovery, result = evaluated
    person = picture.choose(task, recovery)
    figure = picture.draw(task, recovery, result)
    upper, lower = figure.axes[:4], figure.axes[4:]
    assert [axes.get_title().split("\n")[0] for axes in upper] == [
        "HDL cholesterol", "Systolic blood pressure", "Age at the index date", "Idle terms, truth 0",
    ]  # fmt: skip
    assert "mg/dl" in upper[0].get_xlabel() and "mmHg" in upper[1].get_xlabel() and "years" in upper[2].get_xlabel()
    never = {float(line.get_ydata()[0]) for line in upper[1].lines if len(line.get_ydata()) == 1}
    assert never == set(result.missing.values())
    visits = task.test.length[person]
    for axes, name in zip(lower, ("sbp", "hdl"), strict=False):
        values = task.test.values[TERM[name], person, :visits]
        shown = [text.get_text() for text in axes.texts if text.get_text() != "not measured yet"]
        assert shown == [f"{value:.0f}" for value in values[np.isfinite(values)]]
    lines = {line.get_label(): line.get_ydata() for line in lower[0].lines}
    np.testing.assert_array_equal(lines["truth"], recovery.truth[person, TERM["sbp"], :visits])
    np.testing.assert_array_equal(lines["estimate"], recovery.mean[person, TERM["sbp"], :visits])
    figure.savefig(io.BytesIO())


def test_the_words_fit_and_are_large_enough(evaluated):
    figure = picture.draw(*evaluated)
    figure.canvas.draw()
    for axes in figure.axes:
        texts = axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts
        for text in filter(Text.get_text, texts):
            box = text.get_window_extent()
            assert text.get_fontsize() >= 9
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1


def test_the_person_has_clear_visits_and_the_largest_change(evaluated):
    """Made clear: two people, the second of whom moves more; others lack a measurement, or have one too early."""
    task, found, _ = evaluated
    people, sbp = task.test, TERM["sbp"]
    recovery = replace(found, truth=found.truth.copy(), observed=found.observed.copy())
    values, day, length = people.values.copy(), people.day.copy(), people.length.copy()
    cases = (4, 1, 6, 2), (9, 2, 6, 2), (11, 3, 5, 2), (12, 3, 6, 1), (13, 3, 6, 3)
    for person, size, visits, first in cases:
        length[person], day[person, :visits], day[person, visits:] = visits, 60 * np.arange(visits), np.nan
        values[sbp, person], values[sbp, person, first:visits] = np.nan, 120
        recovery.observed[person, sbp] = np.arange(day.shape[1]) >= 2
        recovery.truth[person, sbp] = size * np.arange(day.shape[1])
    made = replace(task, test=Cohort(values, day, length, people.facts, people.id))
    assert np.flatnonzero(picture._clear(made)).tolist() == [4, 9]
    assert picture.choose(made, recovery) == 9
    day[9, 3] = day[9, 2] + 59  # no longer told apart
    assert picture.choose(made, recovery) == 4
