"""Chooses options of a quantizer on the validation splits of all tasks, with one draw of calibration samples."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pmqbench.calibration import draw, expert_of, experts_of
from pmqbench.costs import Costs
from pmqbench.evaluation.validation import Validation
from pmqbench.families.base import FAMILIES
from pmqbench.files import write_json
from pmqbench.quantization.base import quantizer_of
from pmqbench.quantization.calibrate import quantize_model
from pmqbench.torch_setup import start_torch
from pmqbench.tuning import choose

SEED = 0  # of the draw that all candidates see; models of every calibration seed follow one choice


def main(job: Any) -> None:
    """Chooses options of a quantizer on the validation splits of all tasks, with one draw of calibration samples."""
    device = start_torch(job.threads, job.resources.get("gpu", 1))
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    merged, experts = Path(plan["merged"]), experts_of(family, plan, device)
    base, validation = expert_of(family, Path(plan["base"]), "base", device), Validation(family, plan, device)
    for path, wanted in zip(job.output, plan["recipes"], strict=True):
        started, seen = time.perf_counter(), 0

        def values(candidate, recipe=wanted["recipe"]):
            nonlocal seen
            method = quantizer_of(recipe | {"options": recipe["options"] | candidate})
            calibration, counts = draw(family, plan, method.calibration_samples, SEED) if method.calibrated else ({}, {})
            seen = max([seen, *counts.values()])
            model = family.build(merged, "merged model").to(device)
            quantize_model(model, method, calibration, experts, base=base)
            return validation.values(model, str(candidate))

        choice = choose(wanted["candidates"], values)
        costs = Costs(time.perf_counter() - started, seen, validation_labels=True)
        write_json(path, choice | costs.stated() | {"code": job.params.code})
