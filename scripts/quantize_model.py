"""Quantizes a merged model: one folder per calibration seed, or one if the method needs no data."""

import time
from pathlib import Path

from pmqbench.calibration import draw, experts_of, weights_of
from pmqbench.families.base import FAMILIES
from pmqbench.files import read_json, write_json
from pmqbench.jobs import Made, run_job, write_manifest
from pmqbench.quantization.base import quantizer_of
from pmqbench.quantization.calibrate import quantize_model
from pmqbench.quantization.packing import save_packed
from pmqbench.torch_setup import start_torch


def main(job):
    device = start_torch(job.threads)
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    merged, experts = Path(plan["merged"]), experts_of(family, plan, device)
    inputs = {"merged": merged / family.weights_file, **weights_of(family, plan)}
    for wanted in plan["recipes"]:
        recipe = dict(wanted["recipe"])
        if wanted["tuning"]:
            recipe["options"] = recipe["options"] | read_json(wanted["tuning"])["chosen"]
        method = quantizer_of(recipe)
        for model in wanted["models"]:
            started = time.perf_counter()
            folder, seed = Path(model["folder"]), model["seed"]
            calibration, counts = ({}, {}) if seed is None else draw(family, plan, method.calibration_samples, seed)
            quantized = quantize_model(family.build(merged, "merged model").to(device), method, calibration, experts)
            family.save(folder, quantized.tensors, merged, {"method": recipe["method"]})
            size = save_packed(folder / "packed.safetensors", quantized.tensors, quantized.codes)
            write_json(folder / "layers.json", quantized.records)
            made_of = {"quantizer": recipe, "seed": seed, "calibration_samples": counts}
            write_manifest(job, folder, Made(made_of, inputs, started, size, device))


run_job(main, snakemake)
