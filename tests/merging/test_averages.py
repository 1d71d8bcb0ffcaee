"""Simple average and Task Arithmetic against float64 computed from the stacked experts."""

import pytest
import torch

from pmqbench.errors import ConfigError
from pmqbench.merging.engine import merge
from pmqbench.merging.simple_average import SimpleAverage
from pmqbench.merging.task_arithmetic import TaskArithmetic


def stacked(experts: list[dict[str, torch.Tensor]], name: str) -> torch.Tensor:
    return torch.stack([expert[name].double() for expert in experts])


def columns(values: list[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, *[1] * (like.dim() - 1))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_simple_average(n, write, random_models) -> None:
    base, experts = random_models(n)
    merged = merge(SimpleAverage(), write("base", base), [write(f"e{i}", e) for i, e in enumerate(experts)])
    assert list(merged) == sorted(base)
    for name, value in merged.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), stacked(experts, name).mean(0), rtol=1e-6, atol=1e-6)


def test_average_of_identical_experts_is_the_expert(write, random_models) -> None:
    base, (expert,) = random_models(1)
    merged = merge(SimpleAverage(), write("base", base), [write(f"e{i}", expert) for i in range(3)])
    assert all(torch.equal(merged[name], expert[name]) for name in expert)


@pytest.mark.parametrize("scaling", [0.3, 1.0, -0.5, 0.0, [0.2, 0.0, 1.5]])
def test_task_arithmetic(scaling, write, random_models) -> None:
    base, experts = random_models(3)
    merged = merge(TaskArithmetic(scaling=scaling), write("base", base), [write(f"e{i}", e) for i, e in enumerate(experts)])
    factors = scaling if isinstance(scaling, list) else [scaling] * 3
    for name, value in merged.items():
        deltas = stacked(experts, name) - base[name].double()
        expected = base[name].double() + (columns(factors, deltas) * deltas).sum(0)
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)


def test_task_arithmetic_accumulates_in_float64(write) -> None:
    base, big, small = ({"w": torch.tensor([v])} for v in (0.0, 2.0**24, 1.0))
    experts = [write("e0", big), write("e1", small), write("e2", {"w": -big["w"]})]
    assert merge(TaskArithmetic(scaling=1.0), write("base", base), experts)["w"].item() == 1.0


def test_merge_checks_list_lengths(write, random_models) -> None:
    base, experts = random_models(3)
    with pytest.raises(ConfigError, match=r"scaling: 3 values expected, one per expert \(e0, e1, e2\), but 2 given"):
        merge(TaskArithmetic(scaling=[1.0, 1.0]), write("base", base), [write(f"e{i}", e) for i, e in enumerate(experts)])
