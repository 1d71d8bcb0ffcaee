"""Chooses options of a quantizer on the validation splits of all tasks, with one draw of calibration samples."""

import time
from pathlib import Path

from pmqbench.calibration import draw, experts_of
from pmqbench.evaluation.validation import Validation
from pmqbench.families.base import FAMILIES
from pmqbench.files import write_json
from pmqbench.jobs import run_job
from pmqbench.quantization.base import quantizer_of
from pmqbench.quantization.calibrate import quantize_model
from pmqbench.torch_setup import start_torch
from pmqbench.tuning import choose

SEED = 0  # of the draw that all candidates see; models of every calibration seed follow one choice


def main(job):
    device = start_torch(job.threads)
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    merged, experts = Path(plan["merged"]), experts_of(family, plan, device)
    validation = Validation(family, plan, device)
    for path, wanted in zip(job.output, plan["recipes"], strict=True):
        started = time.perf_counter()

        def values(candidate, recipe=wanted["recipe"]):
            method = quantizer_of(recipe | {"options": recipe["options"] | candidate})
            calibration = draw(family, plan, method.calibration_samples, SEED)[0] if method.calibrated else {}
            model = family.build(merged, "merged model").to(device)
            quantize_model(model, method, calibration, experts)
            return validation.values(model, str(candidate))

        choice = choose(wanted["candidates"], values)
        made = {"seconds": round(time.perf_counter() - started, 3), "code": job.params.code}
        write_json(path, choice | made)


run_job(main, snakemake)
