"""Settings of the whole run."""

import hypothesis
import pytest
import torch

# the same examples every time, without a deadline
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("fixed")

# tensors are small here: two threads wait for each other longer than they compute
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """A failure comes back: what a test draws does not depend on the tests before it."""
    torch.manual_seed(0)
