"""Refines a quantized model with its experts as teachers. A job that was stopped goes on where it was."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pmqbench.calibration import draw, experts_of, weights_of
from pmqbench.costs import Costs
from pmqbench.families.base import FAMILIES
from pmqbench.files import hash8, read_json, sha256_file, write_json
from pmqbench.jobs import Made, write_manifest
from pmqbench.quantization.packing import load_codes, save_packed
from pmqbench.refinement.base import refiner_of
from pmqbench.refinement.engine import refine
from pmqbench.torch_setup import start_torch


def main(job: Any) -> None:
    """Refines a quantized model with its experts as teachers. A job that was stopped goes on where it was."""
    started, device = time.perf_counter(), start_torch(job.threads, job.resources.get("gpu", 1))
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    method = refiner_of(plan["recipe"])
    start, folder, seed = Path(plan["start"]), Path(plan["folder"]), plan["seed"]
    packed = start / "packed.safetensors"
    calibration, counts = draw(family, plan, method.calibration_samples, seed)
    inputs = {"start": start / family.weights_file, "packed": packed, **weights_of(family, plan)}
    quantized = read_json(start / "manifest.json")
    quantizer = {"quantizer": quantized["recipe"]["quantizer"]}
    made_of = {**quantizer, "refinement": plan["recipe"], "seed": seed, "calibration_samples": counts}
    read = [*inputs.values(), *map(Path, plan["splits"])]
    identity = hash8([made_of, job.params.code, [sha256_file(path) for path in read]])
    refined = refine(
        family.build(start, str(start)).to(device),
        load_codes(packed),
        method,
        calibration,
        experts_of(family, plan, device),
        seed=seed,
        state=Path(plan["state"]),
        identity=identity,
    )
    family.save(folder, refined.tensors, start, {"method": plan["recipe"]["method"]})
    size = save_packed(folder / "packed.safetensors", refined.tensors, refined.codes)
    write_json(folder / "layers.json", refined.records)
    write_json(folder / "curve.json", refined.curve)
    costs = Costs.from_manifest(quantized) + Costs(calibration_samples=max(counts.values()))
    started = min(started, time.perf_counter() - refined.curve[-1]["seconds"])  # a run that went on took longer than this job
    write_manifest(job, folder, Made(made_of, inputs, started, size, device, costs))
