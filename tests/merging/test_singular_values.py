"""Singular value calibration: a case worked out by hand, an independent float64 computation, and its way through a config."""

import copy
from pathlib import Path

import numpy as np
import pytest

from pmqbench.config import load_suite, read_config
from pmqbench.errors import ConfigError
from pmqbench.merging.base import MERGERS, merger_of
from pmqbench.merging.singular_values import SingularValueCalibration
from pmqbench.merging.task_arithmetic import TaskArithmetic
from pmqbench.merging.tsv_m import TsvM
from tests.merging.matrices import LINEAR, MATRICES, task_vectors

MINI = read_config(Path(__file__).parents[2] / "config" / "mini.yaml")


def calibrated(method, floor: float = 0.1) -> SingularValueCalibration:
    return SingularValueCalibration(method=method, floor=floor)


def reference(change: np.ndarray, deltas: list[np.ndarray], floor: float) -> np.ndarray:
    """Direction by direction, from left vectors that are eigenvectors of Delta Delta^T."""
    _, vectors = np.linalg.eigh(change @ change.T)
    result = np.zeros_like(change)
    for u in vectors.T:
        strengths = []
        for delta in deltas:
            response = u @ delta
            strengths.append(max(floor, (u @ change) @ response / (response @ response)))
        result += len(deltas) / sum(strengths) * np.outer(u, u @ change)
    return result


@pytest.mark.parametrize("method", [TaskArithmetic(scaling=0.3), TsvM(), MERGERS.get("ties")()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("floor", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("experts", [1, 2, 3])
def test_agrees_with_the_formula(method, floor: float, experts: int, merge_arrays, random_matrices) -> None:
    base, tuned = random_matrices(experts)
    plain = merge_arrays(method, base, tuned)
    merged = merge_arrays(calibrated(method, floor), base, tuned)
    for name in MATRICES:
        expected = plain[name]
        if name in LINEAR:
            expected = base[name] + reference(plain[name] - base[name], task_vectors(base, tuned, name), floor)
        np.testing.assert_allclose(merged[name], expected, rtol=0, atol=1e-10)


def test_by_hand(merge_arrays) -> None:
    """Each direction is one expert's, which sees the merge at 0.3; the other does not answer: 2 / (0.3 + 0.1) = 5 times."""
    base = {"w": np.ones((2, 3)), "b": np.zeros(2)}
    first, second = np.zeros((2, 3)), np.zeros((2, 3))
    first[0, 2], second[1, 0] = 3, -2
    experts = [{"w": 1 + first, "b": np.ones(2)}, {"w": 1 + second, "b": np.zeros(2)}]
    merged = merge_arrays(calibrated(TaskArithmetic(scaling=0.3)), base, experts, ["w"])
    np.testing.assert_allclose(merged["w"], 1 + 1.5 * (first + second), atol=1e-12)
    np.testing.assert_allclose(merged["b"], [0.3, 0.3])


def test_what_experts_share_is_weakened_to_their_strength(merge_arrays, random_matrices) -> None:
    """The sum of four equal task vectors is four times too strong, a scaling of 0.3 of one more than three times too weak."""
    base, (expert,) = random_matrices(1)
    for method, experts in ((TaskArithmetic(scaling=1.0), [expert] * 4), (TaskArithmetic(scaling=0.3), [expert])):
        merged = merge_arrays(calibrated(method), base, experts)
        for name in LINEAR:
            np.testing.assert_allclose(merged[name], expert[name], rtol=0, atol=1e-6)  # the task vector is rounded


def test_above_the_floor_the_scaling_does_not_matter(merge_arrays, random_matrices) -> None:
    base, (expert,) = random_matrices(1)
    other = {name: base[name] + 0.5 * (expert[name] - base[name]) for name in base}
    one, two = (merge_arrays(calibrated(TaskArithmetic(scaling=s)), base, [expert, other]) for s in (0.3, 0.9))
    for name in LINEAR:
        np.testing.assert_allclose(one[name], two[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("experts", [1, 13])
def test_experts_equal_to_the_base_change_nothing(experts: int, merge_arrays, random_matrices) -> None:
    base, _ = random_matrices(1)
    merged = merge_arrays(calibrated(TaskArithmetic()), base, [base] * experts)
    assert all(np.array_equal(merged[name], base[name]) for name in base)


@pytest.mark.parametrize("name", MERGERS.names())
def test_of_few_directions_none_is_added(name: str, merge_arrays) -> None:
    """Task vectors of rank two, one of them zero, on top of every method: what no expert moves stays."""
    random = np.random.default_rng(0)
    base = {"w": np.zeros((6, 8))}
    experts = [copy.deepcopy(base) for _ in range(3)]
    for expert in experts[:2]:
        expert["w"][:2, :3] = random.normal(size=(2, 3)).astype(np.float32)
    merged = merge_arrays(calibrated(MERGERS.get(name)()), base, experts, ["w"])["w"]
    assert np.isfinite(merged).all()
    assert np.abs(merged[2:]).max() < 1e-9
    assert np.abs(merged[:, 3:]).max() < 1e-9


def suite(**merge):
    merges = {"m": {"method": "task_arithmetic"} | merge}
    return load_suite(copy.deepcopy(MINI) | {"targets": {}, "merges": merges, "quantizers": {"gptq": {"method": "gptq"}}})


def merge_recipe(**merge):
    return suite(**merge).targets["default"].merges[0]


def test_a_config_asks_for_it() -> None:
    plain, default, other = (
        merge_recipe(**({"calibrate_singular_values": options} if options is not None else {}))
        for options in (None, {}, {"floor": 0.2})
    )
    assert merger_of(plain.describe()) == TaskArithmetic()
    assert merger_of(default.describe()) == calibrated(TaskArithmetic(), 0.1)
    assert merger_of(other.describe()) == calibrated(TaskArithmetic(), 0.2)
    assert default.id == merge_recipe(calibrate_singular_values={"floor": 0.1}).id
    assert len({plain.id, default.id, other.id}) == 3
    assert default.id.startswith("taskarithmetic-svc0.1-")


def test_it_goes_with_a_tuned_scaling() -> None:
    recipe = merge_recipe(tune_scaling=[0.3, 0.5], calibrate_singular_values={})
    assert recipe.id != merge_recipe(tune_scaling=[0.3, 0.5]).id
    described = recipe.describe()
    chosen = merger_of(described | {"options": described["options"] | {"scaling": 0.5}})
    assert chosen == calibrated(TaskArithmetic(scaling=0.5))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"flor": 0.1}, ["merges.m.calibrate_singular_values.flor", 'Did you mean "floor"?']),
        ({"floor": 0}, ["merges.m.calibrate_singular_values.floor", "more than 0"]),
        (True, ["merges.m.calibrate_singular_values", "a mapping"]),
    ],
)
def test_wrong_options(options, words) -> None:
    with pytest.raises(ConfigError) as caught:
        suite(calibrate_singular_values=options)
    assert [word for word in words if word not in str(caught.value)] == []


def test_the_methods_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="2 values expected"):
        calibrated(TaskArithmetic(scaling=[0.1])).check(["a", "b"], "merges.m")
