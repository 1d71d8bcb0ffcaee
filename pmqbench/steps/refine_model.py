"""Refines a quantized model with its experts as teachers. A job that was stopped goes on where it was."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pmqbench.calibration import draw, experts_of, weights_of
from pmqbench.costs import Costs
from pmqbench.distributed import World
from pmqbench.families.base import FAMILIES
from pmqbench.files import hash8, write_json
from pmqbench.integrity import checksum, read_manifest
from pmqbench.jobs import Made, bring_warnings, write_manifest
from pmqbench.processes import run_spread
from pmqbench.quantization.packing import load_codes, save_packed
from pmqbench.refinement.base import refiner_of
from pmqbench.refinement.engine import refine
from pmqbench.torch_setup import start_torch


def main(job: Any) -> None:
    """Refines a quantized model with its experts as teachers. A job that was stopped goes on where it was."""
    run_spread(refine_start, job)


def refine_start(job: Any, world: World) -> None:
    """A process's part of it."""
    started, device = time.perf_counter(), start_torch(job.threads, job.resources.get("gpu", 1))
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    method = refiner_of(plan["recipe"])
    start, folder, seed = Path(plan["start"]), Path(plan["folder"]), plan["seed"]
    packed = start / "packed.safetensors"
    calibration, counts = draw(family, plan, method.calibration_samples, seed, world)
    inputs = {"start": start / family.weights_file, "packed": packed, **weights_of(family, plan)}
    quantized = read_manifest(start)
    quantizer = {"quantizer": quantized["recipe"]["quantizer"]}
    made_of = {**quantizer, "refinement": plan["recipe"], "seed": seed, "calibration_samples": counts}
    data = [read_manifest(Path(split).parent)["files"][Path(split).name] for split in plan["splits"]]
    read = [checksum(path) for path in inputs.values()] if world.is_main else []  # the one that keeps the state
    identity = hash8([made_of, job.params.code, read, data])
    refined = refine(
        family.build(start, str(start)).to(device),
        load_codes(packed),
        method,
        calibration,
        experts_of(family, plan, device),
        seed=seed,
        state=Path(plan["state"]),
        identity=identity,
        world=world,
    )
    bring_warnings(world)
    if not world.is_main:
        return
    family.save(folder, refined.tensors, start, {"method": plan["recipe"]["method"]})
    size = save_packed(folder / "packed.safetensors", refined.tensors, refined.codes)
    write_json(folder / "layers.json", refined.records)
    write_json(folder / "curve.json", refined.curve)
    costs = Costs.from_manifest(quantized) + Costs(calibration_samples=max(counts.values()))
    started = min(started, time.perf_counter() - refined.curve[-1]["seconds"])  # a run that went on took longer than this job
    write_manifest(job, folder, Made(made_of, inputs, started, size, device, world.size, costs))
