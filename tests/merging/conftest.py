"""Checkpoints on disk for the merging tests."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pmqbench.checkpoints import Checkpoint, save_checkpoint
from pmqbench.merging.base import Merger
from pmqbench.merging.engine import merge
from tests.merging.matrices import LINEAR, MATRICES, Arrays

Tensors = dict[str, torch.Tensor]

SHAPES = {"b.weight": (40, 30), "a.weight": (7, 11, 3), "a.bias": (7,), "scale": ()}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The tensors are small: more threads only wait for each other, for minutes where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Tensors], Checkpoint]:
    def write(label: str, tensors: Tensors) -> Checkpoint:
        path = tmp_path / f"{label}.safetensors"
        save_checkpoint(path, tensors)
        return Checkpoint(path, label=label)

    return write


@pytest.fixture
def random_models() -> Callable[[int], tuple[Tensors, list[Tensors]]]:
    """(base, experts) of float32 tensors; task vectors are heavy-tailed and of another size per expert."""

    def models(experts: int) -> tuple[Tensors, list[Tensors]]:
        generator = torch.Generator().manual_seed(experts)
        base = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
        tuned = [
            {name: value + 0.02 * (e + 1) * torch.randn(value.shape, generator=generator) ** 3 for name, value in base.items()}
            for e in range(experts)
        ]
        return base, tuned

    return models


@pytest.fixture
def agrees(write) -> Callable[..., None]:
    """Asserts that a merge is what `expected(name, base, deltas)` computes of float64 arrays: base and stacked task vectors."""

    def check(method: Merger, base: Tensors, experts: list[Tensors], expected, linear=(), atol: float = 1e-6) -> None:
        merged = merge(method, write("base", base), [write(f"e{i}", e) for i, e in enumerate(experts)], linear)
        worst = 0.0
        for name, value in base.items():
            origin = value.double().numpy()
            deltas = np.stack([expert[name].double().numpy() - origin for expert in experts])
            difference = np.abs(merged[name].double().numpy() - expected(name, origin, deltas)).max()
            assert difference <= atol, name
            worst = max(worst, difference)
        print(f"{method}: largest difference {worst:.1e}")

    return check


@pytest.fixture
def merged_vectors(write) -> Callable[..., list]:
    """Merges task vectors of one tensor "w" on a base of zeros; the merged task vector as a nested list."""

    def run(method: Merger, *deltas: list, linear=()) -> list:
        experts = [{"w": torch.tensor(delta)} for delta in deltas]
        files = [write(f"vector{i}", expert) for i, expert in enumerate(experts)]
        return merge(method, write("zero", {"w": torch.zeros_like(experts[0]["w"])}), files, linear)["w"].tolist()

    return run


@pytest.fixture
def merge_arrays(write: Callable[[str, Tensors], Checkpoint]) -> Callable[..., dict[str, np.ndarray]]:
    """Merges float64 arrays; values that float32 has are merged with float64's accuracy throughout."""

    def merged(method: Merger, base: Arrays, experts: list[Arrays], linear: Collection[str] = LINEAR) -> Arrays:
        models = [{name: torch.from_numpy(np.array(value, np.float64)) for name, value in m.items()} for m in (base, *experts)]
        files = [write(f"model{i}", model) for i, model in enumerate(models)]
        return {name: tensor.numpy() for name, tensor in merge(method, files[0], files[1:], linear).items()}

    return merged


@pytest.fixture
def random_matrices() -> Callable[[int], tuple[Arrays, list[Arrays]]]:
    """(base, experts) of float32 arrays with weights of linear layers, `LINEAR`, and other tensors."""

    def models(experts: int) -> tuple[Arrays, list[Arrays]]:
        random = np.random.default_rng(experts)
        base = {name: random.normal(size=shape).astype(np.float32) for name, shape in MATRICES.items()}
        tuned = [
            {name: value + (0.1 * (e + 1) * random.normal(size=value.shape)).astype(np.float32) for name, value in base.items()}
            for e in range(experts)
        ]
        return base, tuned

    return models
