"""`train` beside the loop by hand, and what ends a fit."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, Checkpoint, EarlyStopping

import rnam
from rnam.estimators.callbacks import Clipping
from rnam.estimators.losses import Loss
from rnam.estimators.training import Batches, Settings, outputs, train
from tests.estimators.plain import Line, by_hand, rows, sequences
from tests.support.assertions import assert_equal, assert_within

N, EPOCHS, RATE = 64, 20, 0.05
X = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
Y = X @ [1.0, -2.0, 0.5] + np.random.default_rng(1).normal(size=N)
WEIGHT = np.random.default_rng(2).integers(0, 4, N).astype(float)


def quiet(**settings: Any) -> Settings:
    given = {"device": "cpu", "verbose": 0, "max_epochs": EPOCHS, "learning_rate": RATE, "weight_decay": 0.0}
    return Settings(**given | settings)


def parameters(model: Any) -> Any:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("name", ["squared", "poisson", "logistic"])
@pytest.mark.parametrize("given", ["no weights", "weights", "repeated rows"])
def test_the_whole_set_at_once_is_the_loop_by_hand(name: str, given: str) -> None:
    y = {"squared": Y, "poisson": np.abs(Y).round(), "logistic": (Y > 0).astype(np.int64)}[name]
    weight = np.ones(N) if given == "no weights" else WEIGHT
    loss = Loss.fit(name, y, weight, classes=2 if name == "logistic" else 0)
    at = np.repeat(np.arange(N), WEIGHT.astype(int)) if given == "repeated rows" else np.arange(N)
    training = Batches(rows(X[at]), y[at], weight=WEIGHT if given == "weights" else None)

    def line(dtype: torch.dtype) -> Line:
        """The bias is off its start: there its gradient is 0, and AdamW would step by the sign of a rounding."""
        made = Line(3, dtype=dtype)
        torch.nn.init.constant_(made.gam.bias, 0.5)
        return made

    fitted = train(line(torch.float32), loss, training, None, quiet(batch_size=len(at), clip=None), warm=True)

    def plain(dtype: torch.dtype) -> Any:
        target, w = loss.scaled(y).to(dtype).reshape(-1, 1), torch.from_numpy(weight)

        def mean(o: Any) -> Any:
            losses = {
                "squared": lambda: (target - o) ** 2,
                "poisson": lambda: o.exp() - o * target,
                "logistic": lambda: torch.nn.functional.softplus(o) - o * target,
            }[name]()
            return (losses[:, 0] * w.to(dtype)).sum() / w.sum().to(dtype)

        return parameters(by_hand(line(dtype), torch.from_numpy(X), mean, EPOCHS, RATE))

    exact = plain(torch.float64)
    # twice the error of the same loop in float32, and ten roundings an epoch of numbers of size 1
    bound = 2 * (plain(torch.float32).double() - exact).abs().max() + 10 * EPOCHS * np.finfo(np.float32).eps
    assert_within("parameters", parameters(fitted.model), exact, bound)


def test_a_linear_model_comes_to_its_weighted_optimum() -> None:
    loss = Loss.fit("squared", Y, WEIGHT)
    batches = Batches(rows(X), Y, weight=WEIGHT)
    fitted = train(Line(3), loss, batches, None, quiet(batch_size=N, max_epochs=300))
    root, design = np.sqrt(WEIGHT), np.c_[X, np.ones(N)]
    exact = design @ np.linalg.lstsq(design * root[:, None], Y * root, rcond=None)[0]
    predicted = loss.predict(outputs(fitted.model, batches.inputs))[:, 0]
    # the last tenth of the steps are below 2% of the rate, 0.001, and there is no noise: they end closer than one
    assert_within("prediction", predicted, exact, 1e-3 * Y.std())


class Watch(Callback):  # type: ignore[misc]
    """What a callback of the user sees after each epoch; it may raise."""

    def __init__(self, raises: int = 0) -> None:
        self.raises = raises

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.seen: dict[int, Any] = {}

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        if training and len(net.history) == self.raises:
            raise KeyboardInterrupt

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.seen[net.history[-1, "epoch"]] = parameters(net.module_)


def overfitting() -> tuple[Any, Loss, Batches, Batches]:
    """A network that learns eight rows by heart, and rows that they say nothing about."""
    torch.manual_seed(0)
    rng = np.random.default_rng(3)
    y = rng.normal(size=8)
    loss = Loss.fit("squared", y)
    parts = [Batches(rows(rng.normal(size=(n, 3))), own) for n, own in ((8, y), (50, rng.normal(size=50)))]
    return rnam.NAM(3, (32,)), loss, *parts


def test_the_best_epoch_is_kept_and_patience_ends_the_fit() -> None:
    model, loss, *parts = overfitting()
    watch = Watch()
    fitted = train(model, loss, *parts, quiet(max_epochs=100, patience=7, callbacks=[watch]))
    losses = [epoch["valid_loss"] for epoch in fitted.history]
    assert fitted.best_epoch == 1 + int(np.argmin(losses)) and not fitted.interrupted
    assert len(losses) == fitted.best_epoch + 7 < 100
    assert_equal("weights", parameters(model), watch.seen[fitted.best_epoch])
    assert not model.training
    again = loss(torch.from_numpy(outputs(model, parts[1].inputs)), loss.scaled(parts[1].target)).mean()
    assert_within("loss", min(losses), again, 1e-5 * again)
    assert [epoch["valid_loss_best"] for epoch in fitted.history] == [
        value < min([np.inf, *losses[:n]]) for n, value in enumerate(losses)
    ]


def test_without_validation_the_last_weights_are_kept() -> None:
    model, loss, training, _ = overfitting()
    watch = Watch()
    fitted = train(model, loss, training, None, quiet(max_epochs=5, patience=1, callbacks=[watch]))
    assert fitted.best_epoch is None and len(fitted.history) == 5
    assert_equal("weights", parameters(model), watch.seen[5])
    assert set(fitted.history[0]) == {"epoch", "train_loss", "lr", "train_batch_count", "dur"}


def test_ctrl_c_keeps_the_best_weights_so_far() -> None:
    model, loss, *parts = overfitting()
    watch = Watch(raises=40)
    fitted = train(model, loss, *parts, quiet(max_epochs=100, patience=None, callbacks=[watch]))
    assert fitted.interrupted and len(fitted.history) == 39 and fitted.best_epoch is not None
    assert_equal("weights", parameters(model), watch.seen[fitted.best_epoch])
    fitted = train(model, loss, *parts, quiet(callbacks=[Watch(raises=1)]))
    assert (fitted.interrupted, fitted.history, fitted.best_epoch) == (True, [], None)


def test_early_stopping_of_the_user_is_no_interruption() -> None:
    model, loss, *parts = overfitting()
    own = EarlyStopping(patience=3, sink=lambda text: None)
    fitted = train(model, loss, *parts, quiet(max_epochs=100, patience=None, callbacks=[own]))
    assert len(fitted.history) < 100 and not fitted.interrupted


def test_a_checkpoint_of_the_user_has_the_best_weights(tmp_path: Path) -> None:
    model, loss, *parts = overfitting()
    own = Checkpoint(dirname=tmp_path, f_optimizer=None, f_criterion=None, load_best=False)
    train(model, loss, *parts, quiet(max_epochs=8, callbacks=[own]))
    saved = torch.load(tmp_path / "params.pt")
    assert_equal("weights", saved, dict(model.state_dict()))


def test_a_fit_that_diverges_says_so() -> None:
    training = Batches(rows(X), Y)
    with pytest.raises(ValueError, match=r"the fit diverged: train_loss is \w+ after epoch 1. A lower learning_rate"):
        train(Line(3), Loss.fit("squared", Y), training, None, quiet(learning_rate=1e30, batch_size=8))


def test_a_seed_decides_and_the_random_numbers_of_the_process_stay() -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy()

    def fit(seed: int) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = rnam.NAM(3, (8,), dropout=0.2, members=2)
        parts = Batches(rows(X), Y), Batches(rows(X[:9]), Y[:9])
        return parameters(train(model, Loss.fit("squared", Y), *parts, quiet(batch_size=16, seed=seed)).model)

    first = fit(0)
    assert_equal("torch", torch.get_rng_state(), states[0])
    torch.rand(5)  # the process goes on, and the fit is the same
    assert_equal("again", fit(0), first)
    assert not torch.equal(fit(1), first)
    assert_equal("numpy", np.random.get_state()[1], states[1])


def test_a_warm_start_goes_on_with_the_parameters() -> None:
    loss, training = Loss.fit("logistic", np.arange(N) % 4 == 0, classes=2), Batches(rows(X), np.arange(N) % 4 == 0)
    line = Line(3)
    with torch.no_grad():
        line.gam.bias.fill_(7.0)
    slow = quiet(learning_rate=1e-12, max_epochs=1)
    train(line, loss, training, None, slow, warm=True)
    assert_within("bias", line.gam.bias.detach(), [7.0], 1e-6)
    train(line, loss, training, None, slow)
    assert_within("bias", line.gam.bias.detach(), loss.start, 1e-6)


def test_members_start_at_the_bias_and_validate_by_their_mean() -> None:
    torch.manual_seed(0)
    model = rnam.NAM(3, (8,), members=3)
    loss, part = Loss.fit("poisson", np.abs(Y)), Batches(rows(X), np.abs(Y))
    fitted = train(model, loss, part, part, quiet(max_epochs=3, batch_size=16))
    assert model.gam.bias.shape == (3, 1)
    mean = loss(torch.from_numpy(outputs(model, part.inputs)), loss.scaled(part.target)).mean()
    best = min(epoch["valid_loss"] for epoch in fitted.history)
    assert_within("loss", best, mean, 1e-5 * abs(mean))
    each = outputs(model, part.inputs, return_members=True)
    assert_within("mean", each.mean(0), outputs(model, part.inputs), 1e-5)


def test_each_member_is_clipped_by_its_own_norm() -> None:
    model = rnam.NAM(2, (3,), members=2)
    for n, p in enumerate(model.parameters()):
        p.grad = torch.full_like(p, n + 1.0)
        p.grad[: len(p) // 2] = 1e-3
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]

    class Net:
        optimizer_ = torch.optim.SGD(model.parameters(), 1.0)

    Clipping(0.5, members=2).on_grad_computed(Net())
    halves = [[p.grad[: len(p) // 2], p.grad[len(p) // 2 :]] for p in model.parameters() if p.grad is not None]
    for own, old in zip(halves, before, strict=True):
        assert_equal("below the norm", own[0], old[: len(old) // 2])
    norm = torch.cat([own[1].flatten() for own in halves]).norm()
    assert_within("above it", norm, 0.5, 1e-5)


@pytest.mark.parametrize("schedule", ["onecycle", "plateau"])
def test_the_learning_rate_follows_its_schedule(schedule: Any) -> None:
    model, loss, *parts = overfitting()
    settings = quiet(max_epochs=20, schedule=schedule, patience=None, batch_size=4, learning_rate=0.1)
    rates = [epoch["lr"] for epoch in train(model, loss, *parts, settings).history]
    if schedule == "onecycle":
        assert np.argmax(rates) in (5, 6) and rates[-1] < 1e-6
    else:
        falls = np.array(rates[1:]) / rates[:-1]
        assert rates[0] == 0.1 and rates[-1] < 0.1
        assert_within("falls", falls, np.where(falls < 1, 1 / 3, 1.0), 1e-12)


def test_weights_decay_and_biases_do_not() -> None:
    torch.manual_seed(0)
    model = rnam.RNAM(3, 8, 1, 1, columns=[[0], [1], [2]], missing=True)
    decayed: list[Any] = []

    class Look(Callback):  # type: ignore[misc]
        def on_train_begin(self, net: Any, **kwargs: Any) -> None:
            groups = net.optimizer_.param_groups
            decayed.extend(id(p) for group in groups if group["weight_decay"] for p in group["params"])
            assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))

    part = Batches(sequences([X[:4]] * 3), Y[:3])
    train(model, Loss.fit("squared", Y), part, None, quiet(max_epochs=1, weight_decay=0.1, callbacks=[Look()]))
    names = {name for name, p in model.named_parameters() if id(p) in decayed}
    assert names == {
        "emb.weight",
        "blocks.0.gru.to_hidden_and_gate.weight",
        "blocks.0.ff.1.weight",
        "blocks.0.ff.3.weight",
        "proj.0.weight",
        "proj.2.weight",
    }


def test_bfloat16_trains_float32_parameters() -> None:
    torch.manual_seed(0)
    model, part = rnam.NAM(3, (16,)), Batches(rows(X), Y)
    fitted = train(model, Loss.fit("squared", Y), part, part, quiet(precision="bf16", batch_size=16))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert fitted.history[-1]["train_loss"] < 0.7 * fitted.history[0]["train_loss"]
    close, exact = outputs(model, part.inputs, precision="bf16"), outputs(model, part.inputs)
    assert_within("outputs", close, exact, 0.05 * np.abs(exact).max())  # four layers of 2^-8
    assert not np.array_equal(close, exact)


def test_outputs_at_visits_are_those_of_each_sequence() -> None:
    torch.manual_seed(0)
    model = rnam.RNAM(2, 4, 2, 1, columns=[[0], [1]]).train()
    each = [np.random.default_rng(n).normal(size=(n, 2)) for n in (3, 1, 6, 2)]
    inputs = sequences(each, masked=0.2)
    found = outputs(model, inputs, at="visit", batch_size=3)
    assert found.shape == (12, 2) and found.dtype == np.float64 and model.training
    for n in range(4):
        alone = model(**inputs.batch([n]), return_sequence=True).prediction[0].detach()
        assert_within("outputs", found[inputs.offsets[n] : inputs.offsets[n + 1]], alone.double(), 1e-6)
    last = outputs(model, inputs, batch_size=3)
    assert_within("at ids", last, found[inputs.offsets[1:] - 1], 1e-6)


def test_a_silent_fit_says_nothing_and_another_shows_loss_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    part = Batches(rows(X), Y)
    train(Line(3), Loss.fit("squared", Y), part, part, quiet(max_epochs=2))
    assert capsys.readouterr() == ("", "")
    train(Line(3), Loss.fit("squared", Y), part, part, quiet(max_epochs=2, verbose=1))
    shown = capsys.readouterr()
    assert shown.out == "" and "Epoch 2/2" in shown.err and "train=" in shown.err and "valid=" in shown.err


def test_callbacks_may_be_used_again() -> None:
    model, loss, *parts = overfitting()
    settings = quiet(max_epochs=4, callbacks=[Watch()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [len(train(model, loss, *parts, settings).history) for _ in range(2)] == [4, 4]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be finite and greater than 0"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay must be at least 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"max_epochs": 1.5}, TypeError, "max_epochs must be an int"),
        ({"schedule": "cosine"}, ValueError, "schedule must be one of 'onecycle', 'plateau', got 'cosine'"),
        ({"patience": 0}, ValueError, "patience must be at least 1"),
        ({"clip": 0.0}, ValueError, "clip must be finite and greater than 0"),
        ({"precision": "fp16"}, ValueError, "precision must be one of 'float32', 'bf16', got 'fp16'"),
    ],
)
def test_settings_that_are_none_are_refused(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Settings(**given)
