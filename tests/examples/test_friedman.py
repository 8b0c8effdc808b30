"""examples/friedman.py in a short form, and the truth that it is measured against."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import rnam
from examples import friedman, friedman_baselines, friedman_data
from examples.friedman_data import REAL, TERMS, WARMUP, Generator, Samples
from rnam.models.rnam import Additive
from tests.support import command_line

CPU = torch.device("cpu")
UNIT = 2.0**-53  # the rounding unit of float64


def averages_by_hand(latents: list[float]) -> list[float]:
    average, averages = 0.0, []
    for latent in latents:
        average = 0.95 * average + 0.05 * latent
        averages.append(average)
    return averages


def test_truth_is_that_of_a_float64_loop() -> None:
    """All numbers are positive, so every step adds at most two roundings to the relative error of an average.

    A coefficient's product has one rounding more for each step, on either side; squaring doubles the error.
    """
    steps = 40
    latents = torch.rand(TERMS, 3, steps, generator=torch.Generator().manual_seed(0))
    found = friedman_data.components(friedman_data.exponential_averages(latents))
    functions = (math.sin, math.cos, math.sqrt, lambda average: average**2)
    expected = [
        [[function(m) for m in averages_by_hand(row)] for row in latents[term].tolist()]
        for term, function in enumerate(functions)
    ]
    tolerance = 2 * 2 * 3 * (steps + 1) * UNIT
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=tolerance, atol=0)


def test_samples_are_the_generators_and_show_no_warm_up() -> None:
    generator = friedman_data.make_generator("notebook", seed=3)
    training, _ = friedman_data.make_samples(generator, seed=5, train=6, validation=2, steps=7, last=2)
    latents = torch.rand(TERMS, 8, WARMUP + 7, generator=torch.Generator().manual_seed(5))
    state, inputs = None, []
    for step in range(WARMUP + 7):
        x, state = generator(latents[:, :, step : step + 1, None], state)
        inputs.append(x)
    expected = torch.cat(inputs[WARMUP:], dim=2)[:, :6]
    centred = expected - expected.mean((1, 2), keepdim=True)
    # standardised on both sides, which divides by deviations of 0.01 to 0.1 of inputs of size 1: float32
    # roundings of some units become 1e-4 at most
    scale = centred.square().mean((1, 2), keepdim=True).sqrt()
    torch.testing.assert_close(training.inputs, centred / scale, rtol=0, atol=1e-4)

    last = torch.tensor([[averages_by_hand(row)[-1] for row in term] for term in latents.tolist()])
    torch.testing.assert_close(training.averages, last[:, :6])


def test_target_is_the_standardised_sum_of_its_components(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(friedman_data, "_CHUNK", 8 * 100)  # so that sequences are made in four parts
    generator = friedman_data.make_generator("notebook", seed=0)
    both = friedman_data.make_samples(generator, seed=1, train=300, validation=40, steps=8, last=4)
    assert [len(samples) for samples in both] == [300, 40]
    assert both[1].inputs.shape == (TERMS, 40, 8, 1)
    assert both[1].components.shape == (REAL, 40, 4)
    offsets = torch.cat([samples.components.sum(0) - samples.target for samples in both])
    # sums of five float32 numbers of size 20 and less
    torch.testing.assert_close(offsets, offsets[:1, :1].expand_as(offsets), rtol=0, atol=5 * 20 * 2.0**-24)
    for values, dims in ((both[0].target, (0, 1)), (both[0].inputs, (1, 2))):
        torch.testing.assert_close(values.mean(dims), torch.zeros_like(values.mean(dims)), rtol=0, atol=1e-4)
        torch.testing.assert_close(values.std(dims, correction=0), torch.ones_like(values.mean(dims)))


def hand_made(slopes: list[list[float]]) -> Generator:
    """A term for each list: hidden unit i is driven by slopes[i] * (z - 1/2), and the input is their sum.

    Gates are 1/2 whatever the latent. As g has slope 1 above 0 and less below, slopes of 1 and -1 together
    make a V.
    """
    terms, width = len(slopes), len(slopes[0])
    generator = Generator(terms, width)
    slope = torch.tensor(slopes)
    with torch.no_grad():
        generator.emb.weight.copy_(slope[:, None])
        generator.emb.bias.copy_(-slope[:, None] / 2)
        generator.gru.to_hidden_and_gate.weight.copy_(torch.eye(width, 2 * width).expand(terms, -1, -1))
        generator.proj.weight.fill_(1)
        generator.proj.bias.fill_(0)
    return generator


def test_monotonicity_of_networks_made_by_hand() -> None:
    rising, falling, turning, flat = friedman_data.monotonicity(
        hand_made([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [0.0, 0.0]])
    )
    assert rising > 0.3
    assert falling > 0.3
    assert turning < -1
    assert flat == -torch.inf


def test_check_accepts_monotone_real_terms_whatever_the_idle_ones_do() -> None:
    friedman_data.check_monotone(hand_made([[1.0, 1.0]] * REAL + [[1.0, -1.0]] * REAL))


@pytest.mark.parametrize("term", range(REAL))
def test_check_rejects_a_real_term_that_turns_round(term: int) -> None:
    slopes = [[1.0, 1.0]] * TERMS
    slopes[term] = [1.0, -1.0]
    with pytest.raises(ValueError, match=f"monotone.*{friedman_data.COMPONENTS[term]} -"):
        friedman_data.check_monotone(hand_made(slopes))


@pytest.mark.parametrize("seed", range(3))
def test_drawn_generator_is_monotone_on_a_finer_grid_from_other_histories(seed: int) -> None:
    generator = friedman_data.make_generator("monotone", seed)
    assert friedman_data.monotonicity(generator, seed=100, histories=128, grid=129)[:REAL].min() > 0


def test_generator_fails_when_too_few_networks_are_monotone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(friedman_data, "MARGIN", 1.1)  # a straight line has 1
    with pytest.raises(ValueError, match="monotone"):
        friedman_data.make_generator("monotone", seed=0)


def test_generator_kind_is_checked_and_the_global_seed_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    friedman_data.make_generator("monotone", seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ValueError, match="kind must be one of 'monotone', 'notebook', got 'linear'"):
        friedman_data.make_generator("linear", seed=0)  # type: ignore[arg-type]


def spoken(contributions: Tensor, components: Tensor) -> friedman.Recovery:
    """The recovery by a model that says `contributions` (TERMS, sequences)."""
    sequences = contributions.shape[1]
    target = components.sum(0)
    samples = Samples(
        contributions[..., None, None], target[:, None], components[..., None], torch.zeros(TERMS, sequences)
    )

    def model(inputs: Tensor) -> Additive:
        said = inputs[:, :, -1]
        return Additive(said.sum(0), said)

    return friedman.recover(model, samples, batch=7)  # type: ignore[arg-type]


def test_recovery_of_a_model_that_tells_the_truth_up_to_constants() -> None:
    components = torch.randn(REAL, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    offsets = torch.tensor([3.0, -1.0, -2.5, 0.5])[:, None]
    recovery = spoken(torch.cat([components + offsets, torch.zeros(REAL, 50)]), components)
    assert recovery.correlations() == pytest.approx([1] * REAL, abs=1e-12)
    assert recovery.idle_share() == 0
    assert recovery.mse == pytest.approx(0, abs=1e-24)


def test_recovery_of_a_model_that_errs() -> None:
    components = torch.randn(REAL, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    idle = torch.zeros_like(components)
    idle[2] = 0.1 * components.sum(0)  # a hundredth of the target's variance
    said = torch.cat([components * torch.tensor([2.0, -1.0, 0.0, 1.0])[:, None], idle])
    recovery = spoken(said, components)
    assert recovery.correlations() == pytest.approx([1, -1, 0, 1], abs=1e-12)
    assert recovery.idle_share() == pytest.approx(0.01)
    assert recovery.mse == pytest.approx(float((said.sum(0) - components.sum(0)).square().mean()))


SHORT = replace(friedman.SETTINGS["monotone"], steps=48, train=512, epochs=8, batch=32, rate=1e-2, last=16)


def test_training_learns() -> None:
    result, recovery = friedman.run(SHORT, 0, CPU)
    assert result.mse < 0.6  # 0.38 was measured; the mean of the target has 1
    assert result.correlations == dict(zip(friedman.COMPONENTS, recovery.correlations(), strict=True))
    assert not result.recovered  # "cos" takes longer


def test_a_seed_repeats_its_result_and_another_has_its_own() -> None:
    tiny = replace(SHORT, steps=8, train=64, epochs=2)
    first, _ = friedman.run(tiny, 0, CPU)
    torch.manual_seed(12345)  # what a caller drew before has no part in it
    again, _ = friedman.run(tiny, 0, CPU)
    other, _ = friedman.run(tiny, 1, CPU)
    assert replace(again, minutes=first.minutes) == first
    assert other.mse != first.mse
    assert other.monotonicity != first.monotonicity


def test_notebook_learns_from_the_last_step_with_a_constant_rate() -> None:
    settings = friedman.SETTINGS["notebook"]
    assert (settings.steps, settings.train, settings.epochs, settings.last) == (1024, 8000, 25, 1)
    optimizer = torch.optim.AdamW([torch.zeros(1)], lr=settings.rate)
    schedule = friedman._schedule(optimizer, settings)
    for _ in range(3):
        optimizer.step()
        schedule.step()
        assert optimizer.param_groups[0]["lr"] == settings.rate


@pytest.mark.parametrize("generator", ["monotone", "notebook"])
def test_program_end_to_end(generator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "results.json"
    options = f"--generator {generator} --steps 8 --epochs 1 --train 16 --device cpu --seed 0 4"
    assert friedman.main([*options.split(), "--out", str(tmp_path / "pictures"), "--json", str(file)]) == 0
    for seed in (0, 4):
        picture = tmp_path / "pictures" / f"contributions-{generator}-seed{seed}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
    out, err = capsys.readouterr()
    assert "corr square" in out
    assert "idle share" in out
    assert (">= 0.95" in out) == (generator == "monotone")
    assert "seed 4: 100%" in err and "seed 4, T = 1: 100%" in err  # the progress bars
    for name in ("RNAM, T = 1", "ridge regression, last values", "gradient boosting, summaries"):
        assert name in out
    written = json.loads(file.read_text())
    assert written["settings"]["steps"] == 8
    assert written["settings"]["generator"] == generator
    assert written["versions"]["torch"] == torch.__version__
    assert written["versions"]["rnam"] == rnam.__version__
    assert [result["seed"] for result in written["results"]] == [0, 4]
    assert set(written["results"][0]["correlations"]) == {"sin", "cos", "sqrt", "square"}
    assert len(written["results"][0]["others"]) == 4


def test_goes_on_after_the_seeds_that_are_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = f"--steps 8 --epochs 1 --train 16 --device cpu --out {tmp_path} --seed 0".split()
    assert friedman.main([*options, "4"]) == 0
    whole = capsys.readouterr().out
    run, trained = friedman.run, []
    monkeypatch.setattr(friedman, "run", lambda *given: trained.append(given[1]) or run(*given))
    assert friedman.main([*options, "4"]) == 0
    assert (trained, capsys.readouterr().out) == ([], whole)
    (tmp_path / "contributions-monotone-seed4.png").unlink()
    assert friedman.main([*options, "4", "5"]) == 0
    assert trained == [4, 5]
    assert friedman.main([*options, "--epochs", "2"]) == 1
    assert "was made with other settings: epochs 1, now 2" in capsys.readouterr().err


def test_baselines_see_what_they_should() -> None:
    """Each recognises a target that is made of what it is given, and the others do not."""
    inputs = torch.randn(8, 600, 20, 1)
    end, mean = inputs[:, :, -1, 0], inputs[..., 0].mean(-1)
    for value, good in ((end[0] - end[3], True), (4 * mean[2] - 4 * mean[5], False)):
        samples = Samples(inputs, value[:, None], torch.zeros(4, 600, 1), torch.zeros(8, 600))
        found = friedman_baselines.errors(samples, samples, 0)
        assert found["ridge regression, summaries"] < 1e-3
        assert (found["ridge regression, last values"] < 1e-3) == good
        assert found["gradient boosting, summaries"] < 0.1 * float(value.var())


def test_one_step_keeps_every_target_beside_its_step() -> None:
    inputs = torch.arange(2 * 3 * 5.0).view(2, 3, 5, 1)
    samples = Samples(inputs, inputs[0, :, -2:, 0], torch.zeros(4, 3, 2), torch.zeros(2, 3))
    alone = friedman_baselines.one_step(samples)
    assert alone.inputs.shape == (2, 6, 1, 1) and torch.equal(alone.inputs[0, :, 0], alone.target)
    assert torch.equal(friedman_baselines.at_the_end(samples).inputs, inputs[:, :, -1:])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps", "0"], "must be a whole number of at least 1, got '0'"),
        (["--steps", "abc"], "must be a whole number of at least 1, got 'abc'"),
        (["--train", "7"], "must be a whole number of at least 8, got '7'"),
        (["--seed", "-1"], "must be a whole number of at least 0, got '-1'"),
        (["--seed", str(2**63)], f"must be a whole number of at least 0 and at most {2**63 - 1}, got '{2**63}'"),
        (["--generator", "linear"], "choose from"),
        (["--device", "abacus"], "'abacus' cannot be used here"),
        (["--device", "hpu"], "'hpu' cannot be used here (No module named 'torch.hpu')"),
        (["--device", "meta"], "must be a device that computes"),
    ],
)
def test_bad_options_are_refused(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = command_line.refuses(friedman.main, options, capsys)
    assert options[0] in message
    assert words in message


def test_largest_seed_runs(tmp_path: Path) -> None:
    """Whatever is derived from a seed is one that torch takes too."""
    options = f"--steps 4 --epochs 1 --train 8 --device cpu --seed {2**63 - 1} --out {tmp_path}"
    assert friedman.main(options.split()) == 0


@pytest.mark.parametrize("bad", ["--out file", "--out out --json folder", "--out out --json file/results.json"])
def test_bad_paths_are_found_before_training(
    bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("folder").mkdir()
    monkeypatch.setattr(friedman, "run", lambda *_: pytest.fail("trained first"))
    assert friedman.main(bad.split()) == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyboardInterrupt(), 130, "The same command goes on from"),
        (OSError(28, "No space left on device"), 1, "No space left"),
    ],
)
def test_interruptions_and_full_disks_end_with_a_message(
    error: BaseException,
    status: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*_: object) -> None:
        raise error

    monkeypatch.setattr(friedman, "run", stop)
    assert friedman.main(["--out", str(tmp_path)]) == status
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("module", ["matplotlib", "tqdm", "examples.friedman_baselines"])
def test_missing_module_is_named_before_training(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(friedman, "run", lambda *_: pytest.fail("trained first"))
    with pytest.raises(SystemExit, match=rf"needs {module}; install the extra `demo`"):
        friedman.main(["--seed", "0"])
