"""`python -m benchmarks.estimators`: the cost of `rnam.estimators`' training over a loop by hand, and a large table.

The loop by hand is what one writes in plain torch: a permutation of the rows, batches cut from tensors, AdamW, a
one-cycle schedule, gradient clipping, the validation loss after each epoch and a copy of the best weights. Both take
turns in one process, and the ratio is that of their CPU seconds in a round, the median over the rounds: the machine may
do other work.

With --table, `rnam.NAMClassifier` as it comes learns a large table of numbers beside interpret's EBM, as it comes and
without interactions: CPU and wall seconds, on as many threads as torch has, and the AUC on a tenth that none has seen.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import rnam
from rnam.estimators.classifiers import NAMClassifier
from rnam.estimators.encoding import Inputs
from rnam.estimators.losses import Loss
from rnam.estimators.training import Batches, Settings, train

BATCH, EPOCHS = 128, 10
SETTINGS = Settings(batch_size=BATCH, max_epochs=EPOCHS, patience=None, device="cpu", verbose=0)


class Case(NamedTuple):
    """A small model and its data: inputs are (rows, columns) or (rows, steps, columns)."""

    make: Callable[[], Any]
    input: Tensor
    target: Tensor


def cases(rows: int) -> dict[str, Case]:
    """A NAM of 10 columns, and an RNAM of 10 terms over 20 steps."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(rows, 10, generator=generator)
    sequences = torch.randn(rows, 20, 10, generator=generator)
    terms = [[n] for n in range(10)]
    return {
        "NAM": Case(lambda: rnam.NAM(10, (64, 32)), flat, flat.sin().sum(1, keepdim=True)),
        "RNAM": Case(lambda: rnam.RNAM(10, 16, 1, 1, columns=terms), sequences, sequences.mean(1).sum(1, keepdim=True)),
    }


def by_hand(model: Any, training: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor]) -> float:
    """The least validation loss; the model has the weights of its epoch."""
    rows, batches = len(training[0]), -(-len(training[0]) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), SETTINGS.learning_rate, weight_decay=1e-4, fused=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, SETTINGS.learning_rate, EPOCHS * batches, cycle_momentum=False
    )
    generator, least, best = torch.Generator().manual_seed(0), float("inf"), {}
    for _ in range(EPOCHS):
        model.train()
        for chosen in torch.randperm(rows, generator=generator).chunk(batches):
            input, target = (part[chosen] for part in training)
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(input).prediction, target).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            cycle.step()
        model.eval()
        with torch.no_grad():
            errors = [
                torch.nn.functional.mse_loss(model(input).prediction, target, reduction="sum").item()
                for input, target in zip(*(part.split(BATCH) for part in validation), strict=True)
            ]
        if sum(errors) / len(validation[0]) < least:
            least = sum(errors) / len(validation[0])
            best = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.load_state_dict(best)
    return least


def estimated(model: Any, training: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor]) -> float:
    """The same through `train`."""
    loss = Loss("squared", 1, 0, (), 1, (0.0,), (0.0,), (1.0,))
    parts = [Batches(inputs(input.numpy()), target.numpy()) for input, target in (training, validation)]
    fitted = train(model, loss, *parts, SETTINGS)
    return min(epoch["valid_loss"] for epoch in fitted.history)


def inputs(values: Any) -> Inputs:
    """Rows of a table (rows, columns), or sequences of one length (rows, steps, columns), without missing values."""
    rows, columns = len(values), values.shape[-1]
    steps, flat = (1, True) if values.ndim == 2 else (values.shape[1], False)
    visits = values.reshape(-1, columns).astype(np.float32)
    static = np.zeros((rows, 0), np.float32)
    offsets = np.arange(rows + 1) * steps
    return Inputs(visits, np.ones(visits.shape, np.bool_), None, static, static.astype(np.bool_), offsets, flat)


def overhead(case: Case, rounds: int) -> dict[str, float]:
    """CPU seconds of each, the least of the rounds, and the median of their ratios."""
    share = len(case.input) * 4 // 5
    parts = (case.input[:share], case.target[:share]), (case.input[share:], case.target[share:])
    loops = {"by hand, s": by_hand, "train, s": estimated}
    times: dict[str, list[float]] = {name: [] for name in loops}
    for round in range(rounds + 1):  # the first is a warm-up
        for name in loops if round % 2 else reversed(loops):
            torch.manual_seed(0)
            model = case.make()
            start = time.process_time()
            loops[name](model, *parts)
            if round:
                times[name].append(time.process_time() - start)
    first, second = times.values()
    ratio = statistics.median(b / a for a, b in zip(first, second, strict=True))
    return {name: min(own) for name, own in times.items()} | {"ratio": ratio}


def table(rows: int, columns: int) -> tuple[Any, Any]:
    """Numbers and a binary label, of a smooth additive function of half of the columns and two products."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, columns)).astype(np.float32)
    score = sum(np.sin((1 + n % 3) * X[:, n]) * 0.5 ** (n / 8) for n in range(columns // 2))
    score = score + 0.3 * X[:, 0] * X[:, 1] + 0.3 * X[:, 2] * X[:, 3]
    return X, (rng.random(rows) < 1 / (1 + np.exp(-score))).astype(np.int64)


def beside_ebm(rows: int, columns: int, epochs: int) -> dict[str, dict[str, float]]:
    """Seconds and AUC of each model."""
    from interpret.glassbox import ExplainableBoostingClassifier as Ebm
    from sklearn.metrics import roc_auc_score

    X, y = table(rows, columns)
    last, threads = rows - rows // 10, torch.get_num_threads()
    models: dict[str, Callable[[], Any]] = {
        f"NAMClassifier, {epochs} epochs": lambda: NAMClassifier(max_epochs=epochs, random_state=0, verbose=0),
        "EBM without interactions": lambda: Ebm(interactions=0, n_jobs=threads, random_state=0),
        "EBM": lambda: Ebm(n_jobs=threads, random_state=0),
    }
    found = {}
    for name, make in models.items():
        wall, cpu = time.perf_counter(), _cpu_seconds()
        model = make().fit(X[:last], y[:last])
        took = {"CPU s": _cpu_seconds() - cpu, "wall s": time.perf_counter() - wall}
        found[name] = took | {"AUC": float(roc_auc_score(y[last:], model.predict_proba(X[last:])[:, 1]))}
        print(f"{name}: " + ", ".join(f"{own} {value:.4g}" for own, value in found[name].items()), flush=True)
    return found


def _cpu_seconds() -> float:
    """The seconds of this process, and of those that it started and waited for."""
    return sum(os.times()[:4])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimators", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_560, help="of the small models' data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--table", type=int, default=0, metavar="ROWS", help="a large table beside interpret's EBM")
    parser.add_argument("--columns", type=int, default=50, help="of the large table")
    parser.add_argument("--epochs", type=int, default=10, help="on the large table")
    options = parser.parse_args(arguments)
    if options.table:
        beside_ebm(options.table, options.columns, options.epochs)
        return
    found = {name: overhead(case, options.rounds) for name, case in cases(options.rows).items()}
    print("| | " + " | ".join(found) + " |\n|---|" + "---:|" * len(found))
    for name in next(iter(found.values())):
        print(f"| {name} | " + " | ".join(f"{own[name]:.4g}" for own in found.values()) + " |")


if __name__ == "__main__":
    main()
