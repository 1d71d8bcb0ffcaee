"""Tests that need a CUDA device (`make test-gpu`). Without one they are skipped; the summary says that nothing was tested."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pmqbench.torch_setup import start_torch
from tests.refinement.conftest import berts, cases, t5s, towers  # noqa: F401 - fixtures
from tests.workflow.conftest import fresh  # noqa: F401 - a fixture


@pytest.fixture(scope="session", autouse=True)
def device() -> Iterator[torch.device]:
    """The GPU, set up as jobs set it up."""
    if not torch.cuda.device_count():  # which leaves CUDA asleep, as `start_torch` wants it
        pytest.skip("no CUDA device on this machine: NOTHING of the GPU's code was tested")
    assert start_torch(torch.get_num_threads()) == "cuda"
    yield torch.device("cuda", 0)
    torch.use_deterministic_algorithms(False)
