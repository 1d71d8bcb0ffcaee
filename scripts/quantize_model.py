"""Quantizes a merged model: one folder per calibration seed, or one if the method needs no data."""

import time
from pathlib import Path

from pmqbench.evaluation.base import PROTOCOLS
from pmqbench.families.base import FAMILIES
from pmqbench.files import write_json
from pmqbench.jobs import expert_folders, run_job, start_torch, write_manifest
from pmqbench.quantization.calibrate import Expert, quantize_model
from pmqbench.quantization.packing import save_packed
from pmqbench.recipes import quantizer_of


def main(job):
    device = start_torch(job.threads)
    family = FAMILIES.get(job.params.family)()
    method = quantizer_of(job.params.recipe)
    merged = Path(job.input.merged[0]).parent
    folders = expert_folders(job) if method.calibrated else {}
    experts = {
        task: Expert(f"expert {task}", family.checkpoint(path), lambda path=path: family.build(path).to(device))
        for task, path in folders.items()
    }
    inputs = {"merged": merged / family.weights_file} | {task: path / family.weights_file for task, path in folders.items()}
    for seed, folder in zip(job.params.get("seeds", [None]), map(Path, job.params.folders), strict=True):
        started = time.perf_counter()
        calibration = {} if seed is None else calibration_batches(job, family, method.calibration_samples, seed)
        quantized = quantize_model(family.build(merged, "merged model").to(device), method, calibration, experts)
        family.save(folder, quantized.tensors, merged, {"method": job.params.recipe["method"]})
        size = save_packed(folder / "packed.safetensors", quantized.tensors, quantized.codes)
        write_json(folder / "layers.json", quantized.records)
        recipe = {"quantizer": job.params.recipe, "seed": seed}
        write_manifest(folder, recipe, inputs, job.params.code, size, time.perf_counter() - started, device, job.threads)


def calibration_batches(job, family, samples, seed):
    """Task -> batches as the model's `embed` takes them, drawn from the training split with the run's seed."""
    protocol = PROTOCOLS.get(family.protocol)()
    readers = job.input.get("readers") or [None] * len(job.params.tasks)
    return {
        task: protocol.calibration_batches(Path(split), reader and Path(reader), task, samples, seed, job.params.batch_size)
        for task, split, reader in zip(job.params.tasks, job.input.data, readers, strict=True)
    }


run_job(main, snakemake)
