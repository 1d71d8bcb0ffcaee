"""The one way into a refinement: what it starts from, the checks before any work, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pmqbench.distributed import ALONE, World
from pmqbench.errors import DataError
from pmqbench.families.base import BlockModel
from pmqbench.quantization.base import UNROUNDED
from pmqbench.quantization.grid import LayerCodes
from pmqbench.quantization.problem import Expert
from pmqbench.quantization.streams import sample_count
from pmqbench.refinement.base import Refiner

__all__ = ["Expert", "Refined", "Start", "refine"]


@dataclass(frozen=True)
class Start:
    """What a refinement starts from.

    Attributes:
        model: the quantized model, float32, on the device to work on; afterwards it is the refined one.
        codes: its layers' codes; empty for a model at full precision.
        calibration: task -> input batches as `model.embed` takes them, of this process's tasks.
        experts: task -> expert.
        seed: of the order in which samples are drawn.
        state: file that an interrupted run goes on from; None keeps none.
        identity: what made this run what it is (recipe, inputs, code); a state of another identity is not used.
        world: processes that share the work; each gets the whole result, and the first keeps the state.
    """

    model: BlockModel
    codes: Mapping[str, LayerCodes]
    calibration: Mapping[str, Sequence[Any]]
    experts: Mapping[str, Expert]
    seed: int
    state: Path | None
    identity: str
    world: World

    @property
    def layers(self) -> dict[str, str]:
        """Block of each linear layer by name, in forward order."""
        return {layer: block.name for block in self.model.blocks for group in block.groups for layer in group.layers}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device


@dataclass(frozen=True)
class Refined:
    """A refined model.

    Attributes:
        tensors: every tensor of the model by canonical name, on the CPU: dequantized weights, biases, norms.
        codes: by layer; `codes[layer].weight()` is `tensors[layer + ".weight"]` bit for bit. Empty at full precision.
        records: one JSON-able record a layer, in forward order.
        curve: points in the order of steps: {"step", "loss", "held_out", "seconds"}; None where a loss was not taken.
    """

    tensors: dict[str, Tensor]
    codes: dict[str, LayerCodes]
    records: list[dict[str, Any]]
    curve: list[dict[str, Any]]


def refine(
    model: BlockModel,
    codes: Mapping[str, LayerCodes],
    method: Refiner,
    calibration: Mapping[str, Sequence[Any]],
    experts: Mapping[str, Expert],
    *,
    seed: int,
    state: Path | None,
    identity: str,
    world: World = ALONE,
) -> Refined:
    """Refines a quantized model, or one at full precision, in place; arguments are those of `Start`.

    Raises:
        DataError: no calibration task, one with fewer than two samples or without an expert, or codes of another model.
        NumericalError: NaN or Inf in the experts' weights or in the loss.
    """
    start = Start(model, codes, calibration, experts, seed, state, identity, world)
    _check_calibration(start)
    _check_codes(start)
    return method.refine(start)


def layer_record(
    start: Start, index: int, layer: str, before: Tensor, after: Tensor, coded: LayerCodes | None, seconds: float
) -> dict[str, Any]:
    """The record of a refined layer, with the keys of a quantized one's as far as a refinement knows them.

    Args:
        start: what the refinement started from.
        index: position in forward order.
        layer: its name.
        before, after: its weights (out, in).
        coded: its codes now; None at full precision.
        seconds: the refinement's seconds for this layer.

    Returns:
        Beside the usual keys `moved`, |after - before|^2 / |before|^2, and `changed_codes`, the share of other codes.
    """
    first, groups = start.codes.get(layer), 1 if coded is None else coded.scale.shape[1]
    return {
        "layer": layer,
        "index": index,
        "block": start.layers[layer],
        "shape": list(after.shape),
        "bits": UNROUNDED if coded is None else coded.bits,
        "group_size": None if groups == 1 else after.shape[1] // groups,
        "symmetric": coded is not None and coded.zero is None,
        "moved": float((after - before).square().sum() / before.square().sum().clamp(min=torch.finfo(before.dtype).tiny)),
        "changed_codes": None if coded is None else float((coded.codes != first.codes).double().mean()),
        "seconds": seconds,
        **dict.fromkeys(("tokens", "task_weights", "weight_error", "quantization", "merging", "merging_own_inputs")),
        **dict.fromkeys(("objective", "condition", "damping", "remedy", "bias_shift")),
    }


def _check_calibration(start: Start) -> None:
    if not start.calibration:
        raise DataError("there is no calibration task.", where="refinement", remedy="Give at least one task.")
    missing = sorted(set(start.calibration) - set(start.experts))
    if missing:
        what = f"no expert for {', '.join(missing)}."
        raise DataError(what, where="refinement", remedy="Every calibration task needs its expert.")
    for task, batches in start.calibration.items():
        if sum(map(sample_count, batches)) < 2:
            what = "there are fewer than two calibration samples."
            raise DataError(what, where=f"refinement, task {task}", remedy="Check its data set.")


def _check_codes(start: Start) -> None:
    for layer in start.layers if start.codes else ():
        weight = start.model.get_submodule(layer).weight
        if layer not in start.codes or not torch.equal(start.codes[layer].weight(), weight.detach().cpu()):
            what = f'the codes of "{layer}" are not those of its weight.'
            raise DataError(what, where="refinement", remedy="Model and packed file must be of one run: quantize again.")
