"""LiNeS: a case worked out by hand, and an independent float64 computation from the formula."""

import numpy as np
import pytest

from pmqbench.merging.lines import Lines, relative_depth
from pmqbench.merging.ties import Ties

SHAPES = {
    "shared.weight": (6, 4), "encoder.final.weight": (4,),
    **{f"encoder.block.{i}.layer.0.q.weight": (4, 4) for i in range(3)},
    **{f"encoder.block.{i}.layer.1.norm.weight": (4,) for i in range(3)},
    **{f"decoder.block.{i}.layer.0.q.weight": (5, 4) for i in range(2)},
    "tail.block.0.q.weight": (2, 4),
}  # fmt: skip
LINEAR = [name for name in SHAPES if name.endswith("q.weight")]
DEPTHS = {"encoder.block": [0, 0.5, 1], "decoder.block": [0, 1], "tail.block": [0]}


def depth_of(name: str) -> float:
    """By the table above."""
    for stack, depths in DEPTHS.items():
        if name.startswith(stack):
            return depths[int(name.removeprefix(stack).split(".")[1])]
    return 0


def models(experts: int) -> tuple[dict, list[dict]]:
    random = np.random.default_rng(experts)
    base = {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    tuned = [
        {name: value + (0.1 * random.normal(size=value.shape)).astype(np.float32) for name, value in base.items()}
        for _ in range(experts)
    ]
    return base, tuned


@pytest.mark.parametrize("experts", [1, 3])
@pytest.mark.parametrize("first", [None, 0.2])
@pytest.mark.parametrize("of", ["task_arithmetic", "ties"])
def test_agrees_with_the_formula(of: str, first: float | None, experts: int, merge_arrays) -> None:
    base, tuned = models(experts)
    merged = merge_arrays(Lines(scaling=0.7, first=first, of=of), base, tuned, LINEAR)
    summed = {name: sum((expert[name] - base[name]).astype(np.float64) for expert in tuned) for name in base}
    change = summed
    if of == "ties":
        ties = merge_arrays(Ties(scaling=1.0), base, tuned)  # compared with a reference of its own in test_ties.py
        change = {name: ties[name] - base[name] for name in base}
    norms = [np.abs(np.concatenate([value.ravel() for value in vector.values()])).sum() for vector in (summed, change)]
    a = norms[0] / norms[1] / experts if first is None else first
    for name in base:
        expected = base[name] + (a + 0.7 * depth_of(name)) * change[name]
        np.testing.assert_allclose(merged[name], expected, rtol=0, atol=1e-12, err_msg=name)


def test_by_hand(merge_arrays) -> None:
    """Two experts that move every parameter by 1 and 3: 4 times 1/2, 1/2 + 0.2 and 1/2 + 0.4 along the encoder."""
    base = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    experts = [{name: value + step for name, value in base.items()} for step in (1, 3)]
    merged = merge_arrays(Lines(scaling=0.4), base, experts, LINEAR)
    expected = {"shared.weight": 2, "encoder.final.weight": 2, "tail.block.0.q.weight": 2}
    for i, value in enumerate((2, 2.8, 3.6)):
        expected |= {f"encoder.block.{i}.layer.0.q.weight": value, f"encoder.block.{i}.layer.1.norm.weight": value}
    expected |= {"decoder.block.0.layer.0.q.weight": 2, "decoder.block.1.layer.0.q.weight": 3.6}
    assert expected.keys() == merged.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(merged[name], value, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("of", ["task_arithmetic", "ties"])
def test_experts_equal_to_the_base_change_nothing(of: str, merge_arrays) -> None:
    base, _ = models(1)
    merged = merge_arrays(Lines(of=of), base, [base, base], LINEAR)
    assert all(np.array_equal(merged[name], base[name]) for name in base)


def test_depths_of_the_families_names() -> None:
    linear = [f"encoder.layers.{i}.mlp.fc1.weight" for i in range(12)]
    depth = relative_depth(linear)
    assert depth("encoder.layers.0.layer_norm1.bias") == 0
    assert depth("encoder.layers.11.mlp.fc2.weight") == 1
    assert depth("encoder.layers.3.mlp.fc1.weight") == pytest.approx(3 / 11)
    assert depth("embeddings.position_embedding.weight") == depth("other.4.weight") == 0
