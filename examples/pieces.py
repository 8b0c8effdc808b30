"""Pieces of work that do not need each other, in several processes; what is finished is kept at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import joblib
import torch
from tqdm import tqdm

from examples.finished import Finished

Piece = tuple[Callable[..., Any], tuple[Any, ...]]  # a function, and what it is called with


def complete(finished: Finished, pieces: Mapping[str, Piece], jobs: int) -> None:
    """Do the pieces that are not finished, with a bar.

    Of each `finished` keeps {"result": what the function returns, as JSON holds it, "cpu": its CPU seconds}.

    Args:
        pieces: by name. Functions and arguments can be pickled where jobs is more than 1.
        jobs: processes, each of one thread; 1 is this process.
    """
    left = {name: piece for name, piece in pieces.items() if name not in finished.done}
    done = len(pieces) - len(left)
    if left and done:
        print(f"Going on from {finished.path}: {done} of {len(pieces)} are done.", flush=True)
    work = (joblib.delayed(_one)(name, *piece) for name, piece in left.items())
    with tqdm(total=len(pieces), initial=done, desc="Fitting", unit="fit", dynamic_ncols=True) as bar:
        for name, result in joblib.Parallel(jobs, return_as="generator_unordered", pre_dispatch="all")(work):
            finished.add(name, result)
            bar.set_postfix_str(name, refresh=False)
            bar.update()


def _one(name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, dict[str, Any]]:
    torch.set_num_threads(1)
    start = time.process_time()
    result = function(*arguments)
    return name, {"result": result, "cpu": time.process_time() - start}
