"""`rnam.set_backend` is local to its thread."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

import rnam
from rnam.backends import choice
from rnam.functional import min_gru

NAMES = ("auto", "torch", "reference", "triton")


def in_a_thread(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_eight_threads_do_not_see_each_other() -> None:
    """Each sets, waits until all have, and finds its own; the old one is back afterwards."""
    everyone = threading.Barrier(8, timeout=60)

    def work(number: int) -> list[str]:
        first, second = NAMES[number % 4], NAMES[(number + 1) % 4]
        seen = [rnam.get_backend()]
        with rnam.set_backend(first):
            everyone.wait()
            seen.append(rnam.get_backend())
            with rnam.set_backend(second):
                everyone.wait()
                seen.append(rnam.get_backend())
            everyone.wait()
            seen.append(rnam.get_backend())
        everyone.wait()
        return [*seen, rnam.get_backend()]

    before = rnam.get_backend()
    default = in_a_thread(rnam.get_backend)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8)))
    for number, seen in enumerate(found):
        first, second = NAMES[number % 4], NAMES[(number + 1) % 4]
        assert seen == [default, first, second, first, default]
    assert rnam.get_backend() == before


def test_a_thread_starts_with_the_default_of_the_process() -> None:
    with rnam.set_backend("torch"):
        assert in_a_thread(rnam.get_backend) == os.environ.get("RNAM_BACKEND", "auto")
    program = """
import threading, rnam
rnam.set_backend("torch")
thread = threading.Thread(target=lambda: print(rnam.get_backend()))
thread.start()
"""
    env = os.environ | {"RNAM_BACKEND": "reference"}
    run = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["reference"]


def test_an_object_made_earlier_applies_again_in_every_thread() -> None:
    before = rnam.get_backend()
    plain = rnam.set_backend("reference")
    rnam.set_backend("torch")
    for _ in range(2):
        with plain:
            assert rnam.get_backend() == "reference"
            with rnam.set_backend("auto"), plain:
                assert rnam.get_backend() == "reference"
            assert rnam.get_backend() == "reference"
        assert rnam.get_backend() == "torch"
    rnam.set_backend(before)

    together = threading.Barrier(2, timeout=60)

    def work(name: str) -> list[str]:
        rnam.set_backend(name)
        with plain:
            together.wait()
            seen = rnam.get_backend()
            together.wait()
        return [seen, rnam.get_backend()]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, ("torch", "auto"))) == [["reference", "torch"], ["reference", "auto"]]


def test_a_compiled_function_sees_the_choice_of_its_thread() -> None:
    """The compiler guards on it: the function is compiled again for another choice, and not read from a cache."""
    x, w = torch.randn(2, 3, 5, 4), torch.randn(2, 4, 6)
    compiled: list[bool] = []  # of each graph, whether it has an operator of rnam
    ran: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        number = len(compiled)
        compiled.append(any("rnam" in str(node.target) for node in graph.graph.nodes))

        def run(*arguments: Any) -> Any:
            ran.append(number)
            return graph.forward(*arguments)

        return run

    function = torch.compile(lambda x, w: min_gru(x, w)[0], backend=backend, fullgraph=True)

    def call(name: str) -> None:
        with rnam.set_backend(name):
            function(x, w)

    for name in ("torch", "reference", "torch"):
        call(name)
    in_a_thread(lambda: call("reference"))
    in_a_thread(lambda: call("torch"))
    assert compiled == [True, False]
    assert ran == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("name", ["torch", "reference"])
def test_a_backward_in_another_thread_uses_the_choice_of_its_forward(name: str) -> None:
    """As on a CUDA device, whose backwards run in a thread of their own."""
    x, w = torch.randn(2, 3, 5, 4), torch.randn(2, 4, 6, requires_grad=True)

    def gradient(h: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(h.sin().sum(), w)[0]

    with rnam.set_backend(name):
        here, there = min_gru(x, w)[0], min_gru(x, w)[0]
        expected = gradient(here)

    def other_thread() -> torch.Tensor:
        rnam.set_backend("reference" if name == "torch" else "torch")
        return gradient(there)

    assert torch.equal(in_a_thread(other_thread), expected)


def test_another_thread_may_leave_what_one_entered() -> None:
    chosen, found = rnam.set_backend("reference"), []
    chosen.__enter__()

    def leave() -> None:
        chosen.__exit__(None, None, None)
        found.append(rnam.get_backend())

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    assert found == [choice._DEFAULT]
    chosen.__exit__(None, None, None)
