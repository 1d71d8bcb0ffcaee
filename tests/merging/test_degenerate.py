"""Experts that changed nothing, one expert, matrices of low rank: every method gives a finite merge that makes sense."""

import pytest
import torch

from pmqbench.merging.base import MERGERS
from pmqbench.merging.engine import merge

SHAPES = {"w": (6, 4), "tall": (3, 2), "b": (5,), "scale": ()}
LINEAR = ["w", "tall"]
every_method = pytest.mark.parametrize("name", MERGERS.names())


def models(experts: int) -> tuple[dict, list[dict]]:
    generator = torch.Generator().manual_seed(experts)
    base = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    tuned = [{n: v + 0.1 * torch.randn(v.shape, generator=generator) for n, v in base.items()} for _ in range(experts)]
    return base, tuned


def merged(name: str, base: dict, experts: list[dict], write) -> dict:
    files = [write(f"e{i}", expert) for i, expert in enumerate(experts)]
    return merge(MERGERS.get(name)(), write("base", base), files, LINEAR)


@every_method
@pytest.mark.parametrize("experts", [1, 2, 5])
def test_unchanged_experts_merge_to_the_base(name: str, experts: int, write) -> None:
    base, _ = models(1)
    result = merged(name, base, [base] * experts, write)
    for tensor, value in base.items():
        torch.testing.assert_close(result[tensor], value)


@every_method
@pytest.mark.parametrize("experts", [1, 7])
def test_no_merge_goes_far_beyond_its_experts(name: str, experts: int, write) -> None:
    """Seven experts: more than the matrices have rows. One: an expert, or less than one."""
    base, tuned = models(experts)
    result = merged(name, base, tuned, write)
    for tensor, value in base.items():
        reach = sum(float((expert[tensor] - value).norm()) for expert in tuned)
        assert float((result[tensor] - value).norm()) <= 2.5 * reach + 1e-6, tensor


@every_method
def test_an_unchanged_expert_and_matrices_of_rank_one(name: str, write) -> None:
    base, (first, second) = models(2)
    for expert in (first, second):
        expert["w"] = base["w"] + 0.1 * torch.outer(torch.arange(6.0), expert["w"][0])
    result = merged(name, base, [first, base, second], write)
    for tensor, value in base.items():
        reach = sum(float((expert[tensor] - value).norm()) for expert in (first, second))
        assert float((result[tensor] - value).norm()) <= 2.5 * reach + 1e-6, tensor
