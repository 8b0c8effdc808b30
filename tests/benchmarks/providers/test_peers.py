"""Packages that run on CUDA devices alone: their layouts and gradients, with their formulas in the packages' place."""

import types

import pytest
import torch
from torch import Tensor

from benchmarks.protocol.shapes import Shape
from benchmarks.providers import peers
from benchmarks.providers.registry import compare_all
from tests.benchmarks.support import BOTH, job
from tests.support import oracle


def _channels_first(gates: Tensor, tokens: Tensor) -> Tensor:
    return oracle.scan(gates.mT, tokens.mT).mT


def _hgrn(x: Tensor, g: Tensor) -> tuple[Tensor, None]:
    return oracle.scan(g.exp(), x), None


def _selective(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    assert (a == -1).all() and (b == 1).all() and (c == 1).all() and a.shape == (u.shape[1], 1)
    return _channels_first((delta * a).exp(), delta * b * u)


PACKAGE = types.SimpleNamespace(
    scan=_channels_first, fused_recurrent_hgrn=_hgrn, chunk_hgrn=_hgrn, selective_scan_fn=_selective
)
ON_CUDA = ("accelerated-scan-warp", "accelerated-scan-scalar", "hgrn-fused", "hgrn-chunk", "mamba-ssm")


def test_results_come_back_in_the_common_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "load", lambda *_: PACKAGE)
    rows = compare_all(job("linear_scan", Shape("scan-128", 1, 2, 20, 6, 6)), BOTH, ON_CUDA)
    assert {row.provider for row in rows if row.median_ms} == set(ON_CUDA)
    assert not [row for row in rows if row.max_error > 1e-5]


def test_without_a_gpu_they_say_so() -> None:
    rows = compare_all(job("linear_scan", Shape("scan-128", 1, 2, 20, 6, 6)), BOTH, ON_CUDA)
    assert {row.detail["reason"] for row in rows} == {"it runs on CUDA devices"}


class Cell(torch.nn.Module):
    """A minGRU with its two weights apart, as mingru-scans has them."""

    def __init__(self, dim: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.linear_h, self.linear_z = (torch.nn.Linear(dim, hidden, bias=bias) for _ in range(2))

    def forward(self, x: Tensor, h0: Tensor) -> Tensor:
        preacts = torch.cat([self.linear_h(x), self.linear_z(x)], -1)
        return oracle.recurrence(preacts[None], oracle.min_gru_gates, h0[None])[0][0]


@pytest.mark.parametrize("state", [False, True])
def test_a_layer_for_each_term_has_its_weights(state: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "load", lambda *_: types.SimpleNamespace(MinGRU=Cell))
    rows = compare_all(job("min_gru", Shape("s", 3, 2, 5, 4, 6, state=state)), BOTH, ("mingru-scans",))
    assert [row.max_error < 1e-5 for row in rows if row.provider == "mingru-scans"] == [True, True]
