"""Days of rain and thaws are read off the weather; the response is the difference that 20 mm make."""

from types import SimpleNamespace

import numpy as np
import pytest

from examples.river import answers, data
from tests.support.assertions import assert_within


def test_measured_flow_rises_more_after_wet_weeks() -> None:
    """The figures that the picture shows are of measured flow alone: no model has a part in them."""
    days = data.load()
    block = np.where(days["log_flow"].notna(), 0, -1)
    found = answers.check(days, {}, block)
    assert found.conditions == ("dry", "wet")
    assert found.n.tolist() == [272, 254]
    large = [int((days["rain"][held] >= 8).sum()) for held in answers.conditions(days).values()]
    assert large == [12, 13]
    assert found.slope[0] == pytest.approx([0.38, 0.70], abs=0.005)
    value, error = found.contrast("dry", "wet")
    assert value[0] > 3 * error[0]


def test_thaws_are_the_first_mild_days_after_frost() -> None:
    days = data.load()
    found = answers.thaws(days, np.arange(data.SPIN_UP, len(days)))
    assert len(found) == 9
    assert np.diff(found).min() > len(answers.AROUND)
    temperature, rain = days["temperature"].to_numpy(), days["rain"].to_numpy()
    for day in found:
        assert temperature[day - 7 : day].mean() < answers.FROST
        assert temperature[day : day + 5].mean() > answers.MILD
        assert rain[day - 1 : day + 6].sum() < answers.SOAKED
    whole = answers.thaws(days, np.arange(2000, len(days)))
    assert set(whole) <= {day for day in found if day >= 2000 + 7}


def test_the_response_is_that_of_the_model() -> None:
    """A model that says a tenth of today's rain and a fifth of yesterday's: 2 at once, 4 a day later, then nothing."""
    days = data.load()
    panel = data.as_panel(days)

    def predict(sequences: object) -> np.ndarray:
        rain = sequences.values[:, 0].astype(np.float64)  # type: ignore[attr-defined]
        return 0.1 * rain + 0.2 * np.concatenate([[0.0], rain[:-1]])

    cut = data.blocks(panel, 5)
    found = answers.response(days, panel, cut, [SimpleNamespace(predict=predict)] * 5)  # type: ignore[list-item]
    assert list(found) == ["dry", "wet"]
    for own in found.values():
        assert own.shape[1] == answers.LATER
        assert 30 <= len(own) <= 90
        # rain is float32, of which 60 mm keep 4e-6
        assert_within("response", own, np.tile([2.0, 4.0] + [0.0] * (answers.LATER - 2), (len(own), 1)), 1e-4)


def test_thaws_are_moved_to_the_day_before_and_had_another_weather() -> None:
    """A model that says a tenth of the rain and a hundredth of the temperature of the day."""
    days = data.load()
    panel = data.as_panel(days)

    def predict(sequences: object) -> np.ndarray:
        weather = sequences.values.astype(np.float64)  # type: ignore[attr-defined]
        return 0.1 * weather[:, 0] + 0.01 * weather[:, 1]

    cut, at = data.blocks(panel, 5), answers.thaws(days, np.arange(data.SPIN_UP, len(days)))
    own = predict(panel)
    found = answers.around(days, panel, cut, [SimpleNamespace(predict=predict)] * 5, at, own)  # type: ignore[list-item]
    flow, places = days["log_flow"].to_numpy(), at[:, None] + answers.AROUND
    before = answers.AROUND == -1
    # float32 weather of up to 30, of which 1e-6 is lost
    assert_within("measured", found.measured, (flow[places] - flow[at - 1][:, None]).mean(0), 1e-9)
    assert_within("predicted", found.predicted, (own[places] - own[at - 1][:, None]).mean(0), 1e-5)
    assert (found.measured[before], found.cold[before], found.dry[before]) == (0.0, 0.0, 0.0)
    later = answers.AROUND >= 0
    assert_within("before the first mild day", found.cold[~later], found.predicted[~later], 1e-5)
    rain, temperature = (days[name].to_numpy() for name in ("rain", "temperature"))
    apart = 0.01 * (temperature[places] + 3).mean(0)
    assert_within("cold", (found.predicted - found.cold)[later], apart[later], 1e-5)
    assert_within("dry", (found.predicted - found.dry)[later], 0.1 * rain[places].mean(0)[later], 1e-5)
    assert found.rain == rain[at[:, None] + np.arange(-1, 9)].sum(1).mean()
