"""`python -m benchmarks.online`: visits a second of `Online.update`, next to a loop of `RNAM.step` over the ids.

A tick brings one visit of each id. Four ways to take it:

    table       one `update` of a table of all ids
    dicts       an `update` of a dict for each id
    loop        `step` for each id, with its state in a dict, from tensors that were made before
    batch       one `step` of all ids at once, from tensors that were made before: the work of the network alone

Ways take turns, and times are CPU seconds of the process, the least of the rounds: the machine may do other work. The
slow ways take fewer ids.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas
import torch

import rnam


def ticks(ids: int, times: range, columns: int = 8) -> list[pandas.DataFrame]:
    """A table for each time, with one visit of each id: numbers of which a tenth are missing, and words."""
    rng, tables = np.random.default_rng(0), []
    for hour in times:
        table = pandas.DataFrame({"id": np.arange(ids), "hour": hour, "ward": rng.choice([*"abc"], ids)})
        for n in range(columns):
            table[f"x{n}"] = np.where(rng.random(ids) < 0.1, np.nan, rng.normal(size=ids))
        tables.append(table)
    return tables


def fitted(members: int) -> Any:
    """A model in continuous time, trained for one epoch: how good it is makes no difference here."""
    table = pandas.concat(ticks(200, range(4))).sort_values(["id", "hour"], ignore_index=True)
    values = [name for name in table.columns if name.startswith("x")]
    table["label"] = (table["x0"].fillna(0) > 0).astype(int)
    panel = rnam.Panel.from_frame(
        table, id="id", time="hour", values=values, categories=["ward"], target="label", at="visit"
    )
    model = rnam.RNAMClassifier(members=members, continuous=True, max_epochs=1, random_state=0, verbose=0)
    return model.fit(panel)


def measure(ids: int, single: int, members: int, rounds: int) -> dict[str, float]:
    """Visits a second of each way."""
    model = fitted(members)
    tables = ticks(ids, range(rounds + 1))
    live, alone = model.online(), model.online()
    live.update(tables[0])
    alone.update(tables[0][:single])
    inputs = [_tensors(model, table) for table in tables]
    step = model.model_.step
    with torch.no_grad():
        batch = step(**inputs[0]).state
        loop = {id: batch[id : id + 1] for id in range(single)}
        least: dict[str, float] = {}
        for n in range(1, rounds + 1):
            visits = tables[n][:single].to_dict("records")
            apart = [{name: value[id : id + 1] for name, value in inputs[n].items()} for id in range(single)]

            def by_dict(visits: list[dict[str, Any]] = visits) -> None:
                for visit in visits:
                    answer = alone.update(visit)
                    answer.prediction, answer.contributions  # noqa: B018

            def by_step(apart: list[dict[str, Any]] = apart) -> None:
                for id, each in enumerate(apart):
                    loop[id] = step(**each, state=loop[id]).state

            def by_table(table: pandas.DataFrame = tables[n]) -> None:
                answer = live.update(table)
                answer.prediction, answer.contributions  # noqa: B018

            def at_once(each: dict[str, Any] = inputs[n]) -> None:
                nonlocal batch
                batch = step(**each, state=batch).state

            for name, run in {"table": by_table, "dicts": by_dict, "loop": by_step, "batch": at_once}.items():
                count = ids if name in ("table", "batch") else single
                least[name] = min(least.get(name, np.inf), _seconds(run) / count)
    return {f"{name}, visits/s": 1 / seconds for name, seconds in least.items()}


def _tensors(model: Any, table: pandas.DataFrame) -> dict[str, Any]:
    """The visits as `step` takes them."""
    inputs = model.encoder_.transform(rnam.Panel.from_frame(table, like=model.schema_))
    batch = inputs.batch(np.arange(inputs.sequences))
    return {name: value[:, 0] for name, value in batch.items()}


def _seconds(run: Callable[[], Any]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.online", description=__doc__)
    parser.add_argument("--ids", type=int, default=10_000)
    parser.add_argument("--single", type=int, default=100, help="ids of the ways that take one at a time")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    single = min(options.single, options.ids)
    found = {members: measure(options.ids, single, members, options.rounds) for members in options.members}
    print("| members | " + " | ".join(map(str, found)) + " |\n|---|" + "---:|" * len(found))
    for name in next(iter(found.values())):
        print(f"| {name} | " + " | ".join(f"{each[name]:,.3g}" for each in found.values()) + " |")


if __name__ == "__main__":
    main()
