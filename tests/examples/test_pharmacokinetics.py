"""examples/pharmacokinetics.py: its truth, and that a model which knows how time passes is nearer to it."""

import math

import pytest
import torch

from examples import pharmacokinetics
from examples.pharmacokinetics import TAU, simulate
from tests.support.assertions import assert_within


def test_the_truth_is_that_of_many_small_steps() -> None:
    """Euler's method with 2,000 steps a gap: each is off by half its square over tau**2, up to 50 hours over 2."""
    people = simulate(3, 6, torch.Generator().manual_seed(4))
    for b in range(3):
        concentration, last, cut = [0.0, 0.0], 0.0, 2_000
        for t in range(6):
            time, rates = float(people.times[b, t]), people.rates[b, t].tolist()
            assert time - last < 50 and (t or (time, rates) == (0.0, [0.0, 0.0]))
            h = (time - last) / cut
            for _ in range(cut):
                concentration = [
                    c + h * (rate - c) / tau for c, rate, tau in zip(concentration, rates, TAU, strict=True)
                ]
            effect = 2 * concentration[0] / (1 + concentration[0]) - math.sqrt(concentration[1] + 0.1)
            # local errors h^2 / (2 tau^2) of numbers up to 3, over at most tau / h steps; slopes of up to 2
            bound = 2 * sum(3 * h / (2 * tau) for tau in TAU) + 1e-5  # and the times are float32
            assert_within("effect", people.effect[b, t, 0], effect, bound)
            last = time


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_continuous_time_beats_the_gap_as_an_input(seed: int) -> None:
    errors = pharmacokinetics.compare(seed)
    assert errors["continuous"] <= 0.8 * errors["gap"], errors
    assert errors["gap"] < errors["steps"], errors


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pharmacokinetics, "compare", lambda seed: {"continuous": 0.5, "gap": 1.0, "steps": 2.0})
    pharmacokinetics.main(["--seed", "7"])
    assert capsys.readouterr().out == "seed 7   continuous 0.5000   gap 1.0000   steps 2.0000   continuous / gap 0.50\n"
