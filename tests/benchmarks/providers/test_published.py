"""The published forms compute the layers' functions, and the suite's model is that of the package."""

import torch

import rnam
from benchmarks.protocol.shapes import Shape
from benchmarks.providers import model, published
from tests.benchmarks.support import job
from tests.support import inputs, oracle

# Sums of float64 in another order.
CLOSE = dict(rtol=1e-10, atol=1e-12)


def test_the_published_forms_are_the_same_functions() -> None:
    x, w, h0 = inputs.layer_inputs(2, 3, 30, 4, 5)
    # softplus ends at 20 in torch, which is worth 2e-9; sums of 30 logarithms add 1e-14
    close = dict(rtol=1e-8, atol=0)
    torch.testing.assert_close(published.min_gru(x, w), oracle.min_gru(x, w)[0], **close)
    torch.testing.assert_close(published.min_gru(x, w, h0.abs()), oracle.min_gru(x, w, h0.abs())[0], **close)
    first = x[:, :, :1]
    torch.testing.assert_close(published.step(first, w, h0), oracle.min_gru(first, w, h0)[0], **close)


def test_the_expected_training_step_is_that_of_the_model() -> None:
    shape = Shape("small", 2, 3, 6, 4, 4)
    step = job("model", shape)
    double = model.build(step).double()
    x, target = (t.double() for t in step.leaves)
    with rnam.set_backend("reference"):
        loss = torch.nn.functional.mse_loss(double(x)[0], target)
        gradients = torch.autograd.grad(loss, list(double.parameters()))
    want = model.expected(step).tensors
    torch.testing.assert_close(want[0], loss.detach().reshape(1, 1), **CLOSE)
    torch.testing.assert_close(want[1][0], torch.cat([g.flatten() for g in gradients]), **CLOSE)
