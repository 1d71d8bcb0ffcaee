"""What the tests run in one and in two processes; of a module that all processes can import."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from pmqbench.distributed import World
from pmqbench.jobs import bring_warnings
from pmqbench.merging.featcal import FeatCal
from pmqbench.merging.lot import Lot
from pmqbench.merging.regmean import RegMean
from pmqbench.merging.regmean_pp import RegMeanPlusPlus
from pmqbench.quantization.calibrate import quantize_model
from pmqbench.quantization.methods.awq import Awq
from pmqbench.quantization.methods.epmq import Epmq
from pmqbench.quantization.methods.gptaq import Gptaq
from pmqbench.quantization.methods.gptq import Gptq
from pmqbench.quantization.methods.mixed import Mixed
from pmqbench.quantization.methods.qep import Qep
from pmqbench.quantization.methods.qronos import Qronos
from pmqbench.refinement import state
from pmqbench.refinement.distillation import Training
from pmqbench.refinement.engine import refine
from pmqbench.refinement.methods.distill import Distill
from tests.quantization import toy
from tests.refinement.towers import QUICK, make_towers

METHODS = {
    "gptq": Gptq(bits=3),
    "gptaq": Gptaq(bits=3),
    "qronos": Qronos(bits=3, damping=0.01),
    "qep": Qep(bits=3),
    "awq": Awq(bits=3, search_samples=4),
    "mixed": Mixed(bits=3, of="epmq", probe_samples=4),
    "epmq": Epmq(bits=3, target_inputs="mix", fit_bias=True, fit_norms=True),
    "featcal": FeatCal().solver(),
    "regmean": RegMean().solver(),
    "regmean_pp": RegMeanPlusPlus().solver(),
    "lot": Lot().solver(),
}
found: dict[str, Any] = {}
"""What came out in this process, by name."""


def everything(job: Any, world: World) -> None:
    """Every parallel method on three tasks of a toy model, and distillation of towers; into `found`."""
    torch.set_num_threads(1)
    folder = Path(job.params.plan["folder"]) / str(world.rank)
    folder.mkdir()
    found.clear()
    suite = toy.make_suite(folder)
    own = {task: suite.calibration[task] for task in world.own(list(suite.calibration))}
    base = suite.experts["one"]
    for name, method in METHODS.items():
        found[name] = quantize_model(suite.model(), method, own, suite.experts, base, world)
    distil(folder, world)
    logging.getLogger("pmqbench.test").warning("process %d", world.rank)
    bring_warnings(world)


def distil(folder: Path, world: World) -> None:
    """Three towers' distillation, at once and stopped on its way."""
    case = make_towers(folder, "abc")
    own = {task: case.calibration[task] for task in world.own(list(case.calibration))}
    method, descend = Distill(**QUICK), Training.descend

    def refined(path: Path | None) -> Any:
        model, codes = case.quantized()
        given = {"seed": 0, "state": path, "identity": "", "world": world}
        return refine(model, codes, method, own, case.experts, **given)

    def stopped(training: Training) -> None:
        if training.step == 7:
            raise InterruptedError
        descend(training)

    found["distill"] = refined(None)
    seconds, state.SAVE_SECONDS, Training.descend = state.SAVE_SECONDS, 0.0, stopped
    try:
        refined(folder / "state.pt")
    except InterruptedError:
        found["states"] = [path.name for path in folder.glob("state.pt")]
    finally:
        state.SAVE_SECONDS, Training.descend = seconds, descend
    found["resumed"] = refined(folder / "state.pt")
