"""The order in which a merge is given its experts: which merges are the same to the last bit, and which up to rounding."""

import pytest
import torch

from pmqbench.merging.base import MERGERS, CalibratedMerger
from pmqbench.merging.engine import merge
from tests.merging.matrices import LINEAR, MATRICES

PLACED = {"dare"}  # draws by the expert's place in the list, as its docstring says
ALL = [name for name in MERGERS.names() if not issubclass(MERGERS.get(name), CalibratedMerger) and name not in PLACED]
TOLERANCE = 2e-5  # of the largest value; sums are float64, and what is merged is stored as float32


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_experts_moves_rounding_alone(name, write):
    generator = torch.Generator().manual_seed(0)
    base = {key: torch.randn(shape, generator=generator) for key, shape in MATRICES.items()}
    experts = []
    for place in range(4):
        tuned = {key: value + 0.05 * torch.randn(value.shape, generator=generator) ** 3 for key, value in base.items()}
        experts.append(write(f"e{place}", tuned))
    origin, method = write("base", base), MERGERS.get(name)()
    usual, other = (merge(method, origin, order, LINEAR) for order in (experts, experts[::-1]))
    apart = max(float((usual[key] - other[key]).abs().max()) for key in base)
    assert apart <= TOLERANCE * max(float(tensor.abs().max()) for tensor in base.values())
