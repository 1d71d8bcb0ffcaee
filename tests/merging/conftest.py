"""Checkpoints on disk for the merging tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pmqbench.checkpoints import Checkpoint, save_checkpoint

Tensors = dict[str, torch.Tensor]

SHAPES = {"b.weight": (40, 30), "a.weight": (7, 11, 3), "a.bias": (7,), "scale": ()}


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
