"""Quantizes a merged model: one folder per calibration seed, or one if the method needs no data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pmqbench.calibration import draw, expert_of, experts_of, weights_of
from pmqbench.costs import Costs
from pmqbench.distributed import World
from pmqbench.families.base import FAMILIES
from pmqbench.files import write_json
from pmqbench.integrity import read_manifest, read_sealed
from pmqbench.jobs import Made, bring_warnings, write_manifest
from pmqbench.processes import run_spread
from pmqbench.quantization.base import quantizer_of
from pmqbench.quantization.calibrate import quantize_model
from pmqbench.quantization.packing import save_packed
from pmqbench.torch_setup import start_torch


def main(job: Any) -> None:
    """Quantizes a merged model: one folder per calibration seed, or one if the method needs no data."""
    run_spread(quantize, job)


def quantize(job: Any, world: World) -> None:
    """A process's part of it."""
    device = start_torch(job.threads, job.resources.get("gpu", 1))
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    merged, experts = Path(plan["merged"]), experts_of(family, plan, device)
    base = expert_of(family, Path(plan["base"]), "base", device) if experts else None
    inputs = {"merged": merged / family.weights_file, **weights_of(family, plan)}
    before = Costs.from_manifest(read_manifest(merged))
    for wanted in plan["recipes"]:
        recipe, choice = dict(wanted["recipe"]), read_sealed(wanted["tuning"]) if wanted["tuning"] else {"chosen": {}}
        recipe["options"] = recipe["options"] | choice["chosen"]
        method = quantizer_of(recipe)
        costs = before + Costs.from_manifest(choice)
        for model in wanted["models"]:
            started = time.perf_counter()
            folder, seed = Path(model["folder"]), model["seed"]
            calibration, counts = ({}, {}) if seed is None else draw(family, plan, method.calibration_samples, seed, world)
            student = family.build(merged, "merged model").to(device)
            quantized = quantize_model(student, method, calibration, experts, base, world)
            bring_warnings(world)
            if not world.is_main:
                continue
            family.save(folder, quantized.tensors, merged, {"method": recipe["method"]})
            size = save_packed(folder / "packed.safetensors", quantized.tensors, quantized.codes)
            write_json(folder / "layers.json", quantized.records)
            made_of = {"quantizer": recipe, "seed": seed, "calibration_samples": counts}
            seen = Costs(calibration_samples=max(counts.values(), default=0))
            write_manifest(job, folder, Made(made_of, inputs, started, size, device, world.size, costs + seen))
