"""What the tests of steps on small models have in common."""

import gc

import pytest


@pytest.fixture
def small_steps():
    """Fast where steps are tiny: on one thread, and without a look through all that was imported at each collection of garbage."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)
