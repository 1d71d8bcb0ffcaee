"""Chooses options of a quantizer on the validation splits of all tasks, with one draw of calibration samples."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pmqbench.calibration import draw, expert_of, experts_of
from pmqbench.costs import Costs
from pmqbench.distributed import World
from pmqbench.evaluation.validation import Validation
from pmqbench.families.base import FAMILIES
from pmqbench.integrity import write_sealed
from pmqbench.jobs import bring_warnings
from pmqbench.processes import run_spread
from pmqbench.quantization.base import quantizer_of
from pmqbench.quantization.calibrate import quantize_model
from pmqbench.torch_setup import start_torch
from pmqbench.tuning import choose

SEED = 0  # of the draw that all candidates see; models of every calibration seed follow one choice


def main(job: Any) -> None:
    """Chooses options of a quantizer on the validation splits of all tasks, with one draw of calibration samples."""
    run_spread(tune, job)


def tune(job: Any, world: World) -> None:
    """A process's part of it."""
    device = start_torch(job.threads, job.resources.get("gpu", 1))
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    merged, experts = Path(plan["merged"]), experts_of(family, plan, device)
    base, validation = expert_of(family, Path(plan["base"]), "base", device), Validation(family, plan, device, world)
    for path, wanted in zip(job.output, plan["recipes"], strict=True):
        started, seen = time.perf_counter(), 0

        def values(candidate, recipe=wanted["recipe"]):
            nonlocal seen
            method = quantizer_of(recipe | {"options": recipe["options"] | candidate})
            calibration, counts = {}, {}
            if method.calibrated:
                calibration, counts = draw(family, plan, method.calibration_samples, SEED, world)
            seen = max([seen, *counts.values()])
            model = family.build(merged, "merged model").to(device)
            quantize_model(model, method, calibration, experts, base, world)
            return validation.values(model, str(candidate))

        choice = choose(wanted["candidates"], values)
        bring_warnings(world)
        if not world.is_main:
            continue
        costs = Costs(time.perf_counter() - started, seen, validation_labels=True)
        write_sealed(path, choice | costs.stated() | {"code": job.params.code})
