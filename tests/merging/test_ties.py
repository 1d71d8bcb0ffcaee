"""TIES in its three published forms against plain float64 computations that stack and flatten everything."""

from dataclasses import replace

import pytest
import torch

from pmqbench.merging.engine import merge
from pmqbench.merging.ties import Ties, keep_largest

Tensors = dict[str, torch.Tensor]

FUSIONBENCH = Ties()
ORIGINAL = Ties(aggregate="mean", scaling=1.0)
MERGEKIT = Ties(trim="tensor", zero_sign="positive", aggregate="mean", scaling=1.0)


def flatten(tensors: Tensors) -> torch.Tensor:
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


def unflatten(vector: torch.Tensor, like: Tensors) -> Tensors:
    parts = vector.split([like[name].numel() for name in sorted(like)])
    return {name: part.view(like[name].shape) for name, part in zip(sorted(like), parts, strict=True)}


def reference_global(base: Tensors, experts: list[Tensors], density: float, aggregate: str, scaling: list[float]) -> Tensors:
    """FusionBench and the original repository, from their description."""
    deltas = torch.stack([flatten(expert) - flatten(base) for expert in experts])
    n = deltas.shape[1]
    rank = max(1, n - int(n * density))
    trimmed = torch.stack([torch.where(d.abs() >= d.abs().sort().values[rank - 1], d, 0) for d in deltas])
    sign = trimmed.sum(0).sign()
    sign[sign == 0] = sign.sum().sign()
    agree = torch.where(sign > 0, trimmed > 0, trimmed < 0)
    total = (torch.tensor(scaling, dtype=torch.float64)[:, None] * trimmed * agree).sum(0)
    if aggregate == "mean":
        total /= agree.sum(0).clamp(min=1)
    return unflatten(flatten(base) + total, base)


def reference_mergekit(base: Tensors, experts: list[Tensors], density: float, weights: list[float], lam: float) -> Tensors:
    """mergekit's `ties` with `normalize`, tensor by tensor."""
    merged = {}
    for name, origin in base.items():
        weighted, mass = [], []
        for expert, weight in zip(experts, weights, strict=True):
            delta = (expert[name].double() - origin.double()).flatten()
            kept = torch.zeros_like(delta)
            order = delta.abs().argsort(descending=True, stable=True)[: int(density * delta.numel())]
            kept[order] = delta[order]
            weighted.append(kept * weight)
            mass.append(torch.full_like(delta, weight))
        stack, mass = torch.stack(weighted), torch.stack(mass)
        agree = stack.sign() == (stack.sum(0) >= 0) * 2.0 - 1
        divisor = (mass * agree).sum(0)
        divisor[divisor == 0] = 1
        merged[name] = origin.double() + (lam * (stack * agree).sum(0) / divisor).view(origin.shape)
    return merged


def run(method: Ties, base: Tensors, experts: list[Tensors], write) -> Tensors:
    return merge(method, write("base", base), [write(f"e{i}", expert) for i, expert in enumerate(experts)])


def assert_same(merged: Tensors, expected: Tensors) -> None:
    assert merged.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(
            merged[name].double(), expected[name], rtol=1e-6, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}"
        )


def coarse_models(experts: int) -> tuple[Tensors, list[Tensors]]:
    """Integer task vectors in -3..3: nearly every magnitude ties with the threshold, many sums are zero."""
    generator = torch.Generator().manual_seed(experts)
    shapes = {"b.weight": (40, 30), "a.weight": (7, 11, 3), "a.bias": (7,), "scale": ()}
    base = {name: torch.randint(-8, 9, shape, generator=generator).float() for name, shape in shapes.items()}
    tuned = [{n: v + torch.randint(-3, 4, v.shape, generator=generator) for n, v in base.items()} for _ in range(experts)]
    return base, tuned


@pytest.mark.parametrize("coarse", [False, True], ids=["random", "coarse"])
@pytest.mark.parametrize("density", [0.01, 0.2, 0.55, 1.0])
@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("method", [FUSIONBENCH, ORIGINAL], ids=["fusionbench", "original"])
def test_global_forms(method: Ties, n: int, density: float, coarse: bool, write, random_models) -> None:
    base, experts = coarse_models(n) if coarse else random_models(n)
    expected = reference_global(base, experts, density, method.aggregate, [method.scaling] * n)
    assert_same(run(replace(method, density=density), base, experts, write), expected)


@pytest.mark.parametrize("coarse", [False, True], ids=["random", "coarse"])
@pytest.mark.parametrize("density", [0.01, 0.2, 1.0])
@pytest.mark.parametrize("weights", [[1.0], [0.5, 0.5], [1.0, 0.25, 3.0]])
def test_mergekit_form(weights: list[float], density: float, coarse: bool, write, random_models) -> None:
    base, experts = coarse_models(len(weights)) if coarse else random_models(len(weights))
    method = replace(MERGEKIT, density=density, weights=weights, scaling=0.7)
    assert_same(run(method, base, experts, write), reference_mergekit(base, experts, density, weights, lam=0.7))


def test_scaling_per_expert(write, random_models) -> None:
    base, experts = random_models(3)
    scaling = [0.1, 0.0, 0.8]
    expected = reference_global(base, experts, 0.2, "sum", scaling)
    assert_same(run(replace(FUSIONBENCH, scaling=scaling), base, experts, write), expected)


def test_merge_is_linear_in_scaling(write, random_models) -> None:
    base, experts = random_models(4)
    at = {s: run(replace(FUSIONBENCH, scaling=s), base, experts, write) for s in (0.0, 0.5, 1.0)}
    assert all(torch.equal(at[0.0][name], base[name]) for name in base)
    assert_same(at[0.5], {name: (at[0.0][name].double() + at[1.0][name].double()) / 2 for name in base})


def test_identical_experts(write, random_models) -> None:
    """All agree: the mean is the trimmed task vector itself, the sum n times it."""
    base, (expert,) = random_models(1)
    single = run(ORIGINAL, base, [expert], write)
    assert_same(run(ORIGINAL, base, [expert] * 3, write), {name: value.double() for name, value in single.items()})
    assert_same(run(replace(FUSIONBENCH, scaling=1 / 3), base, [expert] * 3, write), {n: v.double() for n, v in single.items()})


def vectors(*deltas: list[float]) -> tuple[Tensors, list[Tensors]]:
    return {"w": torch.zeros(len(deltas[0]))}, [{"w": torch.tensor(delta)} for delta in deltas]


@pytest.mark.parametrize(
    ("others", "zero_sign", "expected"),
    [
        (2.0, "majority", 2.0),
        (-2.0, "majority", -2.0),
        (-2.0, "positive", 2.0),
        (0.0, "majority", -2.0),  # no majority either: FusionBench's `where(sign > 0, v > 0, v < 0)` keeps the negative
    ],
)
def test_zero_sum(others: float, zero_sign: str, expected: float, write) -> None:
    base, experts = vectors([2.0, others, others], [-2.0, others, others])
    merged = run(Ties(scaling=1.0, density=1.0, zero_sign=zero_sign), base, experts, write)
    assert merged["w"].tolist() == [expected, 2 * others, 2 * others]


def test_signs_are_elected_in_float64(write) -> None:
    base, experts = vectors([2.0**26, -1.0], [1.0, -1.0], [-(2.0**26), -1.0])
    merged = run(Ties(scaling=1.0, density=1.0), base, experts, write)
    assert merged["w"].tolist() == [2.0**26, -3.0]


def test_threshold_keeps_ties_and_one_more_than_the_density(write) -> None:
    base, experts = vectors([5.0, 4.0, 3.0, 2.0, 1.0])
    assert run(Ties(scaling=1.0, density=0.4), base, experts, write)["w"].tolist() == [5.0, 4.0, 3.0, 0.0, 0.0]
    base, experts = vectors([5.0, 3.0, 3.0, -3.0, 1.0])
    assert run(Ties(scaling=1.0, density=0.2), base, experts, write)["w"].tolist() == [5.0, 3.0, 3.0, -3.0, 0.0]


def test_trimming_by_tensor_keeps_the_exact_count_first_come() -> None:
    tensor = torch.tensor([[5.0, 3.0], [-3.0, 3.0], [1.0, -3.0]])
    assert keep_largest(tensor, 0.5).tolist() == [[5.0, 3.0], [-3.0, 0.0], [0.0, 0.0]]
    assert torch.equal(keep_largest(tensor, 1.0), tensor)
    assert not keep_largest(tensor, 0.1).any()


def test_a_merge_can_be_asked_for_again(write, random_models) -> None:
    base, experts = random_models(2)
    files = [write(f"e{i}", expert) for i, expert in enumerate(experts)]
    first, second = (merge(FUSIONBENCH, write("base", base), files) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in base)
