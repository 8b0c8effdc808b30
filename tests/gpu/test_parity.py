"""Every kernel on the device against the float64 reference, forward and backward."""

import pytest
import torch

from rnam import functional
from tests.gpu import joined, parity, shapes
from tests.support.assertions import assert_equal

pytestmark = pytest.mark.usefixtures("nan_buffers")


@pytest.mark.parametrize("case", shapes.layers(), ids=str)
def test_min_gru(case: shapes.LayerCase) -> None:
    parity.check_layer(case)


@pytest.mark.parametrize("case", shapes.scans(), ids=str)
def test_scans(case: shapes.ScanCase) -> None:
    parity.check_scan(case)


@pytest.mark.parametrize("case", shapes.linears(), ids=str)
def test_grouped_linear(case: shapes.LinearCase) -> None:
    parity.check_linear(case)


@pytest.mark.parametrize("case", joined.cases(), ids=str)
def test_joined(case: joined.JoinedCase) -> None:
    joined.check_joined(case)


@pytest.mark.parametrize("hidden", [16, 65])
def test_nan_at_masked_steps_enters_nowhere(hidden: int) -> None:
    case = shapes.LayerCase(F=2, B=3, T=shapes.size(700, 20), D=5, H=hidden, config=None, flags="own")
    given = parity.layer_inputs(case)
    clean = parity.layer_on_kernels(case, given)
    masked = ~parity.mask_and_reset(given.flags)[0]
    given.x = torch.where(masked[..., None], torch.nan, given.x)
    assert_equal("results", parity.layer_on_kernels(case, given), clean)


@pytest.mark.parametrize("space", ["linear", "log"])
def test_nan_goes_forward_only(space: str) -> None:
    steps = shapes.size(3000, 40)
    case = shapes.LayerCase(F=1, B=2, T=steps, D=3, H=4, config=None, space=space)
    given = parity.layer_inputs(case)
    with parity.on_kernels():
        clean, _ = functional.min_gru(given.x, given.weight, given.h0, space=space)
        given.x[:, 0, steps // 2, 1] = torch.nan
        h, h_last = functional.min_gru(given.x, given.weight, given.h0, space=space)
    assert torch.equal(h[:, 0, : steps // 2], clean[:, 0, : steps // 2]) and torch.equal(h[:, 1], clean[:, 1])
    assert h[:, 0, steps // 2 :].isnan().all() and h_last[:, 0].isnan().all()


@pytest.mark.parametrize("case", shapes.layers()[:2] + shapes.layers()[18:20] + shapes.layers()[23:24], ids=str)
def test_a_second_run_gives_the_same_bits(case: shapes.LayerCase) -> None:
    given = parity.layer_inputs(case)
    assert_equal("results", parity.layer_on_kernels(case, given), parity.layer_on_kernels(case, given))


def test_a_second_run_of_scans_and_linear_gives_the_same_bits() -> None:
    terms, batch, steps, width = shapes.SMALL
    x = torch.rand(terms, batch, 8 * steps, width, device=shapes.DEVICE, requires_grad=True)
    weight = torch.randn(terms, width, width, device=shapes.DEVICE, requires_grad=True)

    def run() -> list[torch.Tensor]:
        outputs = functional.linear_scan(x, x), functional.log_scan(-x, x), functional.grouped_linear(x, weight)
        return [*outputs, *torch.autograd.grad([h.sum() for h in outputs], (x, weight))]

    with parity.on_kernels():
        assert_equal("outputs and gradients", run(), run())
