"""Quantizes a merged model: one folder per calibration seed, or one if the method needs no data."""

import time
from pathlib import Path

from pmqbench.evaluation.base import PROTOCOLS
from pmqbench.families.base import FAMILIES
from pmqbench.files import write_json
from pmqbench.jobs import Made, run_job, write_manifest
from pmqbench.quantization.base import quantizer_of
from pmqbench.quantization.calibrate import Expert, quantize_model
from pmqbench.quantization.packing import save_packed
from pmqbench.quantization.streams import calibration_counts
from pmqbench.torch_setup import start_torch


def main(job):
    device = start_torch(job.threads)
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    method = quantizer_of(plan["recipe"])
    merged = Path(plan["merged"])
    folders = {task: Path(path) for task, path in plan.get("experts", {}).items()}
    experts = {
        task: Expert(f"expert {task}", family.checkpoint(path), lambda path=path: family.build(path).to(device))
        for task, path in folders.items()
    }
    inputs = {"merged": merged / family.weights_file} | {task: path / family.weights_file for task, path in folders.items()}
    for wanted in plan["models"]:
        started = time.perf_counter()
        folder, seed = Path(wanted["folder"]), wanted["seed"]
        calibration = {} if seed is None else calibration_batches(job, family, method.calibration_samples, seed)
        counts = calibration_counts(calibration, method.calibration_samples, plan["strict"]) if calibration else {}
        quantized = quantize_model(family.build(merged, "merged model").to(device), method, calibration, experts)
        family.save(folder, quantized.tensors, merged, {"method": plan["recipe"]["method"]})
        size = save_packed(folder / "packed.safetensors", quantized.tensors, quantized.codes)
        write_json(folder / "layers.json", quantized.records)
        recipe = {"quantizer": plan["recipe"], "seed": seed, "calibration_samples": counts}
        write_manifest(job, folder, Made(recipe, inputs, started, size, device))


def calibration_batches(job, family, samples, seed):
    """Task -> batches as the model's `embed` takes them, drawn from the training split with the run's seed."""
    plan = job.params.plan
    protocol = PROTOCOLS.get(family.protocol)()
    base, size = Path(plan["base"]), plan["batch_size"]
    return {
        task["name"]: protocol.calibration_batches(Path(split), base, task["name"], samples, seed, size)
        for task, split in zip(plan["tasks"], job.input.data, strict=True)
    }


run_job(main, snakemake)
