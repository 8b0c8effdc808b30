"""`train`: a model on batches, through skorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping, EpochTimer
from torch import Tensor, nn

from rnam import _checks
from rnam.estimators.batches import Batches, Labels, Part
from rnam.estimators.callbacks import BestWeights, Clipping, Divergence, Patience, Stop, schedule
from rnam.estimators.encoding import Inputs
from rnam.estimators.losses import Loss
from rnam.estimators.objective import Objective
from rnam.estimators.progress import Progress

__all__ = ["Batches", "Fitted", "Settings", "choose_device", "outputs", "seeded", "train"]

SCHEDULES = ("onecycle", "plateau")
PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class Settings:
    """How a model is trained.

    Args:
        learning_rate: of AdamW; with schedule="onecycle" the highest.
        weight_decay: of AdamW, for the weights of linear layers and cells. Biases and norms have none.
        batch_size: the most sequences of a batch.
        max_epochs: with schedule="onecycle" the length of the cycle.
        schedule: "onecycle" or "plateau".
        patience: the fit ends after so many epochs without a new least validation loss; None for never.
        clip: the greatest norm of the gradient of a member; None for any.
        regularizer: strengths by name, see `Objective`.
        bootstrap: each member has its own bootstrap sample; False for one sample, the whole, of all.
        precision: "float32", or "bf16": autocast to bfloat16, with float32 parameters and losses.
        device: "auto" takes a CUDA device where there is one.
        seed: of the order of the sequences, the members' bootstrap samples, and dropout.
        callbacks: skorch's, called after those of the fit. They see a net with `module_`, `optimizer_` and `history`.
        verbose: 0 is silent, 1 shows a bar.

    Raises:
        TypeError, ValueError: a value is none of these.
    """

    learning_rate: float = 1e-2
    weight_decay: float = 1e-4
    batch_size: int = 128
    max_epochs: int = 100
    schedule: Literal["onecycle", "plateau"] = "onecycle"
    patience: int | None = 20
    clip: float | None = 1.0
    regularizer: Mapping[str, float] | None = None
    bootstrap: bool = True
    precision: Literal["float32", "bf16"] = "float32"
    device: str | torch.device = "auto"
    seed: int = 0
    callbacks: Sequence[Any] = ()
    verbose: int = 1

    def __post_init__(self) -> None:
        _checks.positive_number("learning_rate", self.learning_rate)
        if _checks.finite_number("weight_decay", self.weight_decay) < 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")
        _checks.positive_int("batch_size", self.batch_size)
        _checks.positive_int("max_epochs", self.max_epochs)
        _checks.one_of("schedule", self.schedule, SCHEDULES)
        if self.patience is not None:
            _checks.positive_int("patience", self.patience)
        if self.clip is not None:
            _checks.positive_number("clip", self.clip)
        _checks.boolean_flag("bootstrap", self.bootstrap)
        _checks.one_of("precision", self.precision, PRECISIONS)
        if not isinstance(self.verbose, bool):
            _checks.whole_number("verbose", self.verbose)


class Fitted(NamedTuple):
    """model: as it was given, in eval mode, with the weights of the best epoch. history: a dict for each epoch, with
    epoch, train_loss, valid_loss, valid_loss_best, lr, dur (seconds) and penalty, those that there are. best_epoch: of
    the least validation loss, None without validation. interrupted: by Ctrl-C."""

    model: nn.Module
    history: list[dict[str, Any]]
    best_epoch: int | None
    interrupted: bool


def train(
    model: Any, loss: Loss, train: Batches, valid: Batches | None, settings: Settings, *, warm: bool = False
) -> Fitted:
    """Train a model in place.

    Args:
        model: `rnam.RNAM` or `rnam.NAM`, with loss.out_dim outputs; it is moved to the device.
        loss: fitted to the labels of `train`.
        train, valid: what is learned, and what says when it is enough. Without `valid` all epochs are run, and the last
            weights are kept.
        settings: see `Settings`.
        warm: go on with the parameters as they are; else the bias starts at loss.start.

    torch's own random numbers are left as they were. Ctrl-C ends the fit and keeps the best weights so far.

    Raises:
        ValueError: a loss is NaN or infinite after an epoch; a part has no label or no weight.
    """
    device = choose_device(settings.device)
    members = int(getattr(model, "members", 1))
    rng = np.random.default_rng(settings.seed)
    training = Part(train, loss, settings.batch_size, device, members, rng, settings.bootstrap)
    validation = None if valid is None else Part(valid, loss, settings.batch_size, device)
    if not warm:
        with torch.no_grad():
            model.gam.bias.copy_(torch.tensor(loss.start))
    bar = Progress(settings.max_epochs, len(training))
    net = _Net(model, Objective(loss, members, settings.regularizer), settings, device, training, validation, bar)
    with seeded(settings.seed, device):
        try:
            net.fit(train, None)
        finally:
            bar.close()
            model.eval()
    history = [{key: row[key] for key in row if key != "batches"} for row in net.history if "dur" in row]
    best = next((row["epoch"] for row in reversed(history) if row.get("valid_loss_best")), None)
    return Fitted(model, history, best, net.interrupted)


def choose_device(device: str | torch.device) -> torch.device:
    """The device of a name; "auto" is a CUDA device where there is one, and else the CPU.

    Raises:
        ValueError: torch knows no device of this name, or there is no CUDA device.
    """
    there = torch.cuda.is_available()
    if device == "auto":
        return torch.device("cuda" if there else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be 'auto' or a device of torch, got {device!r}") from error
    if found.type == "cuda" and not there:
        raise ValueError(f"device must be one that is there, got {device!r} where torch finds no CUDA device")
    return found


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch's random numbers from a seed, within; those of the process are left as they were."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed all devices
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def outputs(
    model: Any,
    inputs: Inputs,
    *,
    at: Literal["id", "visit"] = "id",
    batch_size: int = 256,
    device: str | torch.device | None = None,
    precision: str = "float32",
    return_members: bool = False,
    by_term: bool = False,
) -> NDArray[np.float64]:
    """A model's outputs for each sequence, or with at="visit" for each visit, in the order of the inputs.

    Args:
        model: moved to the device, where one is given.
        inputs: all of them are read, in batches of `batch_size` sequences.
        return_members: those of each member.
        by_term: the contribution of each term, in the place of predictions.

    Returns:
        float64 ([members,] sequences, out_dim) or ([members,] visits, out_dim); by term ([members,] terms, ...).
    """
    if device is not None:
        model.to(choose_device(device))
    like = next(model.parameters()).device
    over_time = at == "visit" and not inputs.flat
    asked = _asked(model, over_time, return_members)
    found = []
    with torch.no_grad(), _evaluating(model), _autocast(like, precision):
        for start in range(0, inputs.sequences, batch_size):
            positions = np.arange(start, min(start + batch_size, inputs.sequences))
            told = model(**inputs.batch(positions, like), **asked)
            given = told.contributions if by_term else told.prediction
            if over_time:
                lengths = torch.from_numpy(inputs.lengths[positions]).to(like)
                given = given[..., torch.arange(given.shape[-2], device=like) < lengths[:, None], :]
            found.append(given.double().cpu().numpy())
    return np.concatenate(found, axis=-2)


def _asked(model: Any, over_time: bool, members: bool) -> dict[str, bool]:
    """The flags of the model's forward; a NAM has none of a sequence."""
    return ({"return_sequence": True} if over_time else {}) | ({"return_members": True} if members else {})


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


class _Criterion(nn.Module):
    """skorch makes and moves a criterion, and this one is `Objective`, which has nothing to move."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective


class _Net(NeuralNet):  # type: ignore[misc]
    """skorch's net, whose batches are those of a `Part` and whose loss is an `Objective`."""

    def __init__(
        self, model: nn.Module, objective: Objective, settings: Settings, device: torch.device, training: Part,
        validation: Part | None, bar: Progress,
    ) -> None:  # fmt: skip
        own: list[Any] = [EpochTimer(), Divergence()]
        if settings.clip is not None:
            own.append(Clipping(settings.clip, objective.members))
        if validation is not None:
            own.append(BestWeights())
        steps, monitor = settings.max_epochs * len(training), "train_loss" if validation is None else "valid_loss"
        patience = 10 if settings.patience is None else max(1, settings.patience // 3)
        own.append(schedule(settings.schedule, settings.learning_rate, steps, patience, monitor))
        last: list[Any] = [bar] if settings.verbose else []
        if validation is not None and settings.patience is not None:
            last.append(Patience(settings.patience))
        super().__init__(
            model,
            _Criterion,
            criterion__objective=objective,
            lr=settings.learning_rate,
            max_epochs=settings.max_epochs,
            batch_size=settings.batch_size,
            callbacks=[*own, *settings.callbacks, *last],
            device=device,
            verbose=settings.verbose,
        )
        self.objective, self.settings = objective, settings
        self.parts = training, validation
        self.over_time = training.over_time
        self.interrupted = False

    def get_default_callbacks(self) -> list[Any]:
        return []

    def initialize_optimizer(self, triggered_directly: Any = None) -> Any:
        decayed: list[Tensor] = []
        others: list[Tensor] = []
        for module in self.module_.modules():
            for name, p in module.named_parameters(recurse=False):
                plain = name != "weight" or isinstance(module, nn.LayerNorm)
                (others if plain else decayed).append(p)
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        self.optimizer_ = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        return self

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        return self.parts

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        return dataset

    def fit_loop(self, X: Any, y: Any = None, epochs: Any = None, **fit_params: Any) -> Any:
        """skorch's loop. It takes any KeyboardInterrupt for the end; this one tells which was the user's."""
        try:
            return super().fit_loop(X, y, epochs, **fit_params)
        except Stop:
            return self
        except KeyboardInterrupt:
            ends = [own for _, own in self.callbacks_ if isinstance(own, EarlyStopping)]
            self.interrupted = not any(own.misses_ >= own.patience for own in ends)
            return self

    def run_single_epoch(self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any) -> None:
        """skorch's epoch, whose mean losses are read once, at its end: a GPU is not waited for at every step."""
        if iterator is None:
            return
        self.told: list[tuple[Tensor, Tensor | None]] = []
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            rate = self.optimizer_.param_groups[0]["lr"]  # which a schedule then changes
            self.notify("on_batch_end", batch=batch, training=training, **step)
        losses, penalties = zip(*self.told, strict=True)
        self.history.record(f"{prefix}_loss", float(torch.stack(losses).double().mean()))
        if training and self.objective.penalties:
            self.history.record("penalty", float(torch.stack(penalties).double().mean()))
        if training:
            self.history.record("lr", rate)
        self.history.record(f"{prefix}_batch_count", len(self.told))

    def _set_training(self, training: bool = True) -> None:
        if self.module_.training != training:
            self.module_.train(training)

    def infer(self, x: Any, **fit_params: Any) -> Any:
        members = self.module_.training and self.objective.members > 1
        with _autocast(self.device, self.settings.precision):
            return self.module_(**x, **_asked(self.module_, self.over_time, members))

    def get_loss(self, y_pred: Any, y_true: Labels, X: Any = None, training: bool = False) -> Tensor:
        value = self.objective(y_pred, self.module_.gam.bias, y_true, training)
        self.told.append((value.loss, value.penalty))
        return value.total
