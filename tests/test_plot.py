"""What pictures say and where their lines are; not their pixels."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import rnam
from rnam import explain, plot
from rnam.explain import Response, Table
from rnam.plot import _style

pyplot = pytest.importorskip("matplotlib.pyplot")
NAN = float("nan")


@pytest.fixture(autouse=True)
def _no_window() -> Iterator[None]:
    pyplot.switch_backend("Agg")
    yield
    pyplot.close("all")


def _legend(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def _table(members: bool = True, missing: bool = True) -> Table:
    x = np.array([NAN, 1, 2, 4, NAN])
    y, sd = np.array([0.3, -1, 0, 2, 0.5]), np.array([NAN, *[0.2 if members else NAN] * 4])
    last = 5 if missing else 4
    columns = (
        ("(intercept)", "a", "a", "a", "a"),
        x,
        ("", *["mg"] * 4),
        y,
        y - sd,
        y + sd,
        np.array([80, 10, 20, 30, 20]),
    )
    return Table(*(column[:last] for column in columns))


def test_shape_draws_line_band_density_and_the_missing() -> None:
    ax = plot.shape(_table(), "a", label="this one", contribution="log-odds")
    line = next(line for line in ax.lines if line.get_label() == "this one")
    np.testing.assert_array_equal(line.get_xydata(), [[1, -1], [2, 0], [4, 2]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a (mg)", "log-odds")
    assert _legend(ax) == ["this one", "refit spread (±1 sd)", "not observed (20)"]
    (band,) = ax.collections
    np.testing.assert_allclose(band.get_datalim(ax.transData).intervaly, (-1.2, 2.2))
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == pytest.approx(np.array([1, 2, 3]) * heights[0])
    # bars lie below the lines: their axes fraction is below that of the lowest value
    lowest = ax.transAxes.inverted().transform(ax.transData.transform((1, -1.2)))[1]
    assert max(heights) < lowest


def test_shape_of_one_model_has_no_band_and_one_line_no_legend() -> None:
    ax = plot.shape(_table(members=False, missing=False), "a")
    assert not ax.collections and ax.get_legend() is None


def test_shape_of_many_values_has_a_density_of_equal_area_for_equal_numbers() -> None:
    x = np.cumsum(np.linspace(1, 2, 30))
    table = Table(("a",) * 30, x, ("",) * 30, x, x * NAN, x * NAN, np.full(30, 7))
    ax = plot.shape(table, "a")
    areas = [bar.get_height() * bar.get_width() for bar in ax.patches]
    np.testing.assert_allclose(areas, areas[0])
    assert ax.get_xlabel() == "a"


class Ebm:
    """As interpret gives it."""

    def __init__(self, **terms: dict) -> None:
        self.terms = terms

    def explain_global(self) -> "Ebm":
        return self

    def data(self, key: int | None = None) -> dict:
        return {"names": list(self.terms)} if key is None else list(self.terms.values())[key]


def test_an_ebm_is_drawn_as_steps_centred_on_the_same_data() -> None:
    ebm = Ebm(b={}, a={"names": [0, 1.5, 3, 5], "scores": np.array([10.0, 12, 14]), "type": "univariate"})
    ax = plot.shape(_table(), "a", ebm=ebm)
    steps = next(line for line in ax.lines if line.get_label() == "EBM")
    # at x = 1, 2, 4 with n = 10, 20, 30 its mean is 38 / 3
    np.testing.assert_allclose(steps.get_xydata(), [[0, -8 / 3], [1.5, -2 / 3], [3, 4 / 3], [5, 4 / 3]])
    assert steps.get_drawstyle() == "steps-post" and "EBM" in _legend(ax)


def test_plain_arrays_stand_for_an_ebm() -> None:
    ax = plot.shape(_table(), "a", ebm=(np.array([4, 1, 2]), np.array([14, 10, 12])))
    steps = next(line for line in ax.lines if line.get_label() == "EBM")
    np.testing.assert_allclose(steps.get_xydata(), [[1, -8 / 3], [1.5, -2 / 3], [3, 4 / 3], [4, 4 / 3]])


@pytest.mark.parametrize(
    ("ebm", "message"),
    [
        (Ebm(b={}), "ebm must have the term 'a', got b"),
        (Ebm(a={"names": ["x", "y"], "scores": np.zeros(2), "type": "univariate"}), "function of one number"),
        (Ebm(a={"names": [1, 2], "scores": np.zeros((2, 2)), "type": "interaction"}), "got interaction"),
        ((np.zeros(2), np.zeros(3)), r"ebm must be two arrays of one length, got shapes \(2,\) and \(3,\)"),
    ],
)
def test_other_ebms_are_refused(ebm: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot.shape(_table(), "a", ebm=ebm)


def test_importance_bars_are_in_order() -> None:
    ax = plot.importance([1.0, 3, 2], ["a", "b", "c"], sd=[0.1, 0.3, 0.2], largest=2)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "c"]
    assert [bar.get_width() for bar in ax.patches] == [3, 2]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the largest is at the top"
    assert "2 largest of 3 terms" in ax.get_title(loc="left") and "over refits" in ax.get_xlabel()
    for arguments, message in ((([1, 2], ["a"]), "values must have shape"), (([1], ["a"], [1, 2]), "sd must have")):
        with pytest.raises(ValueError, match=message):
            plot.importance(*arguments[:2], sd=arguments[2] if len(arguments) == 3 else None)


def test_calibration_curves_share_axes() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(500)
    y = rng.random(500) < p
    ax = plot.calibration(p, y, label="one")
    assert plot.calibration(torch.tensor(p), y, groups=5, label="two", ax=ax) is ax
    curves = [line for line in ax.lines if line.get_gid() == "calibration"]
    for line, groups in zip(curves, (10, 5), strict=True):
        expected = explain.calibration_curve(p, y, groups=groups)
        np.testing.assert_array_equal(line.get_xydata(), np.stack(expected[:2], 1))
    assert curves[0].get_color() != curves[1].get_color() and curves[0].get_marker() != curves[1].get_marker()
    assert [text.split(":")[0] for text in _legend(ax)] == ["right", "one", "two"]
    assert f"Brier skill {explain.brier_skill(p, y):.2f}" in _legend(ax)[1]
    assert "predicted" in ax.get_xlabel() and "observed" in ax.get_ylabel()


def _answer(members: int = 0) -> Response:
    change = np.arange(6.0).reshape(1, 6) * np.array([[0], [1], [2]])
    lead = np.stack([change * (m + 1) for m in range(members)]) if members else change
    outside = np.zeros((3, 6), bool)
    outside[2, [0, 4]] = True
    time = np.arange(6.0) - 2
    values = np.zeros((3, 6))
    return Response(
        "bili", "mg/dl", "step", 1.5, time, np.array([1.0, 2, 3]), values, np.zeros((*lead.shape, 1)), lead[..., None],
        outside, (0.5, 4.0),
    )  # fmt: skip


@pytest.mark.parametrize("members", [0, 2])
def test_responses_are_lines_per_baseline_marked_where_outside(members: int) -> None:
    ax = plot.response(_answer(members), time="years since the change")
    lines = [line for line in ax.lines if line.get_label().startswith("from ")]
    for i, line in enumerate(lines):
        np.testing.assert_allclose(line.get_ydata(), np.arange(6) * i * (1.5 if members else 1))
    assert len({line.get_linestyle() for line in lines}) == 3
    assert _legend(ax) == ["from 1 mg/dl", "from 2 mg/dl", "from 3 mg/dl", "outside 1 to 99 % of the data"]
    rings = [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert [line.get_xdata().tolist() for line in rings] == [[2.0]], "after the change alone"
    assert (ax.get_xlabel(), ax.get_title(loc="left")) == ("years since the change", "bili +1.5 mg/dl, from 0 on")
    assert len(ax.collections) == (3 if members else 0)


def test_timeline_shows_every_measured_value_and_no_other() -> None:
    time, parts = [0, 0.5, 2.0], np.array([[0.1, 0.2, 0.1], [-1.0, 1, 0]])
    values = np.array([[NAN, 30, NAN], [1.25, NAN, 2]])
    ax = plot.timeline(time, parts, values, ["a", "b"], ["mg", ""], end=3, time_label="years", label="log-odds")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a  (mg)"], "by how far they moved"
    assert [text.get_text() for text in ax.texts] == ["1.25", "2", "30"]
    color = _style.diverging(1.0)
    np.testing.assert_allclose([tile.get_facecolor() for tile in ax.patches], color.to_rgba([-1.0, 0, 0.2]))
    centres = [(tile.get_x() + tile.get_width() / 2, tile.get_y() + tile.get_height() / 2) for tile in ax.patches]
    np.testing.assert_allclose(centres, [(0, 0), (2, 0), (0.5, 1)])
    starts = {(row, line.get_xdata()[0]) for line in ax.lines for row in [line.get_ydata()[0]]}
    assert starts == {(0, 0), (0, 0.5), (0, 2), (1, 0.5), (1, 2)}, "a row begins at its first value"
    assert max(line.get_xdata()[1] for line in ax.lines) == 3
    whole = plot.timeline(time, parts, values, ["a", "b"], unobserved=True, colorbar=False)
    assert {line.get_xdata()[0] for line in whole.lines if line.get_ydata()[0] == 1} == {0, 0.5, 2}
    assert ax.get_xlabel() == "years"
    assert ax.figure.axes[1].get_ylabel() == "log-odds"


def test_timeline_takes_axes_order_and_numbers() -> None:
    _, ax = pyplot.subplots()
    options = dict(order=[0], number=lambda i, value: f"<{i} {value}>", colorbar=False, ax=ax)
    assert plot.timeline([0.0], [[1.0], [2.0]], [[5.0], [6.0]], ["a", "b"], **options) is ax
    assert [text.get_text() for text in ax.texts] == ["<0 5.0>"]
    assert len(ax.figure.axes) == 1
    with pytest.raises(ValueError, match=r"contributions must have shape \(terms, visits\) = \(2, 1\), got \(1, 1\)"):
        plot.timeline([0.0], [[1.0]], [[5.0]], ["a", "b"])
    with pytest.raises(ValueError, match="values must have the shape of contributions"):
        plot.timeline([0.0], [[1.0]], [[5.0, 1.0]], ["a"])
    with pytest.raises(ValueError, match="units must be 1, one for each name, got 2"):
        plot.timeline([0.0], [[1.0]], [[5.0]], ["a"], ["mg", "mg"])


def test_two_close_visits_leave_the_other_tiles_their_width() -> None:
    """Their own numbers stand upright, within the tile; where all have room the tiles are of one width."""
    parts, values = np.zeros((1, 4)), np.array([[1.234, 23.45, 345.6, 45.67]])
    close = plot.timeline([0, 4, 4.1, 8.0], parts, values, ["a"], colorbar=False)
    wide = plot.timeline([0, 2, 4, 8.0], parts, values, ["a"], colorbar=False)
    widths = [tile.get_width() for tile in close.patches]
    assert widths[1] == widths[2] == pytest.approx(0.092) and widths[0] == widths[3] > 0.3
    assert [text.get_rotation() for text in close.texts] == [0, 90, 90, 0]
    assert len({tile.get_width() for tile in wide.patches}) == 1 and {t.get_rotation() for t in wide.texts} == {0}
    for ax in (close, wide):
        ax.figure.canvas.draw()
        for text, tile in zip(ax.texts, ax.patches, strict=True):
            outer, inner = tile.get_window_extent(), text.get_window_extent()
            assert outer.x0 - 3 <= inner.x0 and inner.x1 <= outer.x1 + 3, "pixels of 1/100 inch, the text's margin"
    with pytest.raises(ValueError, match=r"time must rise from visit to visit, got a step of 0\.0"):
        plot.timeline([0.0, 0], np.zeros((1, 2)), np.zeros((1, 2)), ["a"])


@pytest.mark.parametrize("models", [1, 3])
def test_the_legend_of_calibration_covers_no_curve(models: int) -> None:
    """Nor does it where the risks are all too low, and the curve fills the upper left."""
    p = np.linspace(0.01, 0.5, 200)
    ax = None
    for number in range(models):
        ax = plot.calibration(p, np.random.default_rng(number).random(200) < 2 * p, label=f"model {number}", ax=ax)
    ax.figure.canvas.draw()
    assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1 - 1


def test_numbers_on_tiles_can_be_read() -> None:
    for value, expected in ((-1.0, "white"), (0.0, "black"), (1.0, "white")):
        assert _style.ink(_style.diverging(1.0).to_rgba(value)) == expected


def test_colours_differ_in_lightness_too() -> None:
    """So that they are told apart in grey: by at least a twentieth of the way from black to white."""
    lightness = sorted(
        sum(w * int(color[i : i + 2], 16) for w, i in ((0.299, 1), (0.587, 3), (0.114, 5))) / 255
        for color in _style.SERIES
    )
    assert np.diff(lightness).min() > 0.05


def test_pictures_can_be_saved_from_a_model(tmp_path) -> None:
    model = explain.describe(rnam.RNAM(2, 4, 1, 1), ["a", "b"], ["mg", ""])
    data = np.random.default_rng(0).normal(size=(50, 2))
    plot.shape(explain.table(model, data), "a").figure.savefig(tmp_path / "shape.png")
    plot.response(explain.response(model, "b", data=data[:, 1])).figure.savefig(tmp_path / "response.png")
    assert len(list(tmp_path.iterdir())) == 2


def test_is_imported_without_matplotlib_and_says_what_it_needs() -> None:
    program = """
import sys
sys.modules["matplotlib"] = None
import rnam
try:
    rnam.plot.importance([1.0], ["a"])
except ImportError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout == "rnam.plot needs matplotlib: pip install 'rnam[plot]'\n"


def test_lag_responses_share_axes_and_mark_what_is_outside() -> None:
    outside = np.array([False, True, False])
    ax = plot.lag_response([0, 1, 2], [1.0, 3, 2], low=[0, 2, 1], high=[2, 4, 3], outside=outside, title="rain +20 mm")
    assert plot.lag_response([0, 1, 2], [0.5, 0, 0], name="after rain", ax=ax) is ax
    lines = [line for line in ax.lines if line.get_gid() == "lag response"]
    assert [line.get_ydata().tolist() for line in lines] == [[1, 3, 2], [0.5, 0, 0]]
    assert lines[0].get_color() != lines[1].get_color() and lines[0].get_linestyle() != lines[1].get_linestyle()
    (rings,) = (line for line in ax.lines if line.get_gid() == "outside")
    assert rings.get_xdata().tolist() == [1] and len(ax.collections) == 1
    assert _legend(ax) == ["refit spread (±1 sd)", "outside of what occurred", "after rain"]
    assert ax.get_title(loc="left") == "rain +20 mm"
    with pytest.raises(ValueError, match="change must have the shape of x"):
        plot.lag_response([0, 1], [1.0])


def test_surfaces_have_a_tile_for_each_number() -> None:
    values = np.array([[0.0, 1, NAN], [-2, 0.5, 1]])
    outside = np.array([[False, False, True], [False, True, False]])
    ax = plot.surface([1, 2, 30], ["low", "high"], values, outside=outside, x_label="lag", title="from 0")
    shade = ax.images[0].get_array()
    assert shade.shape == (2, 3, 4) and shade[0, 2].tolist() == [0.85, 0.85, 0.85, 1.0]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "2", "30"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["low", "high"]
    (dots,) = ax.lines
    assert sorted(zip(*dots.get_data(), strict=True)) == [(1, 1), (2, 0)]
    names = [f"a long name {n}" for n in range(12)]
    long = plot.surface(names, [1.0], np.zeros((1, 12)))
    assert len(long.get_xticks()) == 6 and long.get_xticklabels()[0].get_rotation() == 90
    with pytest.raises(ValueError, match=r"values must have shape \(rows, columns\) = \(2, 3\), got \(3, 2\)"):
        plot.surface([1, 2, 3], [1, 2], np.zeros((3, 2)))


def test_curves_are_thin_outside_and_bars_for_levels() -> None:
    x, y = np.arange(4.0), np.array([1.0, 2, 3, 4])
    ax = plot.curve(
        x, y, n=[1, 5, 1, 0], outside=[False, False, False, True], after={"after a dry one": y / 2}, missing=0.5
    )
    by_name = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_array_equal(by_name["contribution"], [1, 2, 3, NAN])
    np.testing.assert_array_equal(by_name["contribution, outside of what occurred"], y)
    np.testing.assert_array_equal(by_name["after a dry one"], y / 2)
    assert by_name["missing"] == [0.5, 0.5] and len(ax.patches) == 40
    bars = plot.curve(x, y, levels=["a", "b", "c", "d"], low=y - 1, high=y + 1, n=[1, 2, 3, 4])
    assert [bar.get_height() for bar in bars.patches] == [1, 2, 3, 4]
    assert [text.get_text() for text in bars.get_xticklabels()] == ["a\n1", "b\n2", "c\n3", "d\n4"]
    for wrong in ({"outside": [True]}, {"after": {"b": [1.0]}}):
        with pytest.raises(ValueError, match="must have the shape of x"):
            plot.curve(x, y, **wrong)


def test_ranges_agreement_and_people() -> None:
    ax = plot.ranges([1.0, 2], ["a", "b"], low=[0, 1], high=[2, 3], marked=[False, True], marked_label="never seen")
    assert [line.get_xdata().tolist() for line in ax.lines[1:]] == [[1], [2]] and _legend(ax) == ["never seen"]
    with pytest.raises(ValueError, match=r"values must have shape \(1,\)"):
        plot.ranges([1.0, 2], ["a"])
    ax = plot.agreement([1.0, 2], [1.5, 2.5], group_predicted=[3.0], group_observed=[1.0], groups=["clay"], unit="mm")
    assert list(ax.lines[0].get_xdata()) == [1.0, 3.0] and [text.get_text() for text in ax.texts] == ["clay"]
    parts = np.arange(24.0).reshape(2, 2, 6)
    ax = plot.person([0, 3], parts, parts.sum(2), list("abcdef"), title="id 3")
    assert _legend(ax) == ["prediction", "f", "e", "d", "c", "sum of 2 others"] and len(ax.collections) == 6
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), parts.sum(2).mean(0))
    single = plot.person([0], parts[:, :1], parts[:, :1].sum(2), list("abcdef"))
    assert [bar.get_width() for bar in single.patches] == [11, 10, 9, 8, 7, 6]
    with pytest.raises(ValueError, match="contributions must have shape"):
        plot.person([0, 3], parts, parts.sum(2), ["a"])
    assert len(plot.grid(3)) == 3
