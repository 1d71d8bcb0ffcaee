"""Small vision towers to refine, which several processes can make alike."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pmqbench.checkpoints import Checkpoint, save_checkpoint
from pmqbench.families.vision_config import VisionConfig
from pmqbench.families.vit import VisionTower, build_tower
from pmqbench.quantization.calibrate import quantize_model
from pmqbench.quantization.grid import LayerCodes
from pmqbench.quantization.methods.rtn import Rtn
from pmqbench.quantization.problem import Expert
from pmqbench.refinement.engine import Refined, refine
from pmqbench.refinement.methods.distill import Distill

CONFIG = VisionConfig(32, 2, 2, 48, 16, 4, "quick_gelu", 1e-5, (0.5,) * 3, (0.25,) * 3)
QUICK = {"calibration_samples": 24, "steps": 12, "batch_size": 8, "warm_up": 2, "evaluations": 3}


@dataclass
class Case:
    """A model at full precision, its experts and calibration batches."""

    merged: Any
    experts: dict[str, Expert]
    calibration: dict[str, list[Any]]

    def quantized(self, **options: Any) -> tuple[Any, dict[str, LayerCodes]]:
        """A fresh copy, rounded to nearest, and its codes."""
        model = copy.deepcopy(self.merged)
        return model, quantize_model(model, Rtn(**options), {}, {}).codes

    def distilled(
        self, grid: dict[str, Any] | None = None, seed: int = 0, state: Path | None = None, **options: Any
    ) -> Refined:
        """The refined model of a quantized copy."""
        return self.refined(*self.quantized(**(grid or {})), seed=seed, state=state, **options)

    def refined(self, model: Any, codes: Any, seed: int = 0, state: Path | None = None, **options: Any) -> Refined:
        """Of a given quantized model."""
        method = Distill(**QUICK | options)
        return refine(model, codes, method, self.calibration, self.experts, seed=seed, state=state, identity="test")


def make_towers(folder: Path, tasks: str) -> Case:
    """Vision towers of tasks of one letter, the same whoever makes them, with the experts' files in `folder`."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    base = VisionTower(CONFIG).eval().requires_grad_(False)
    torch.nn.init.normal_(base.embeddings.class_embedding)
    experts, calibration = {}, {}
    for i, task in enumerate(tasks):
        state = {name: tensor + 0.05 * torch.randn_like(tensor) for name, tensor in base.state_dict().items()}
        save_checkpoint(folder / task, state)
        weights = Checkpoint(folder / task, label=f"expert {task}")
        experts[task] = Expert(f"expert {task}", weights, lambda w=weights: build_tower(CONFIG, w))
        calibration[task] = list((torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8) // (1 + i)).split(16))
    return Case(base, experts, calibration)
