"""The training loop of expert distillation: steps, held-out losses, the step that is kept, and the state to go on from."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from statistics import fmean
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pmqbench.distributed import World
from pmqbench.errors import NumericalError
from pmqbench.families.base import Block, BlockModel
from pmqbench.heartbeat import rounds
from pmqbench.quantization.layer_record import peak_memory_mb
from pmqbench.quantization.streams import computing_in
from pmqbench.refinement.engine import Refined, Start, layer_record
from pmqbench.refinement.latent import LatentLayer
from pmqbench.refinement.methods.distill import Distill
from pmqbench.refinement.rates import optimiser_of, rate_share
from pmqbench.refinement.samples import Draws
from pmqbench.refinement.state import StateFile
from pmqbench.refinement.teachers import Lesson, points, run_block, teach
from pmqbench.torch_setup import strictly_deterministic

log = logging.getLogger(__name__)

CURVE_POINTS = 50
"""Points of the training loss in the curve; held-out losses are in `evaluations` of them."""


def distill(method: Distill, start: Start) -> Refined:
    """Teaches the model of `start` and gives it the weights of its best step, or of the start if no step is better."""
    began = perf_counter()
    unrounded = [layer for layer in start.layers if layer not in start.codes]
    before = {layer: start.model.get_submodule(layer).weight.detach().clone() for layer in unrounded}
    lesson = teach(start.calibration, start.experts, start.device, method.block_weight, method.forward_precision)
    training = _training(method, start, lesson)
    world = start.world
    file = StateFile(start.state if world.is_main else None, f"{start.identity} {method} seed {start.seed}")
    if (stored := world.broadcast(file.load())) is not None:
        training.restore(stored)
        log.info("%s: going on from step %d", start.state, training.step)
    training.run(file)
    if training.best is not None:
        training.put(training.best[1])
    if training.best_step == 0:
        log.warning("distillation: no step has a lower held-out loss than the start, which is left as it was.")
    codes = {name: coded for name, layer in training.layers.items() if (coded := layer.close()) is not None}
    start.model.requires_grad_(False)
    share, memory = (perf_counter() - began) / len(start.layers), peak_memory_mb(start.device)
    records = []
    for index, name in enumerate(start.layers):
        after = start.model.get_submodule(name).weight.detach().cpu()
        first = before[name].cpu() if name in before else start.codes[name].weight()
        records.append(layer_record(start, index, name, first, after, codes.get(name), share) | {"peak_memory_mb": memory})
    file.remove()
    tensors = {name: tensor.detach().cpu() for name, tensor in start.model.state_dict().items()}
    return Refined(tensors, codes, records, training.curve)


def _training(method: Distill, start: Start, lesson: Lesson) -> Training:
    train = method.train == "all"
    layers = {
        name: LatentLayer(start.model.get_submodule(name), start.codes.get(name), train and method.learning_rate > 0)
        for name in start.layers
    }
    tasks = len(start.world.all_of(lesson.samples.counts))
    draws = Draws.of(lesson.samples.counts, method.held_out, method.batch_size, start.seed, tasks)
    return Training(method, start.model, layers, lesson, draws, optimiser_of(method, start.model, layers), start.world)


@dataclass
class Training:
    """A distillation in progress.

    Attributes:
        method: its options.
        model: the student.
        layers: the student's linear layers by name.
        lesson: what the experts teach.
        draws: the samples of each step, of this process's tasks.
        optimiser: of all that moves.
        world: processes, each of which teaches its own tasks; what moves is the same in all.
        step: steps done.
        best: lowest held-out loss, and what moves as it was then; None without held-out samples.
        best_step: the step of it.
        stale: evaluations since then.
        losses: of the steps since the last point of the curve.
        curve: its points so far.
        seconds: spent on steps, in interrupted runs too.
    """

    method: Distill
    model: BlockModel
    layers: dict[str, LatentLayer]
    lesson: Lesson
    draws: Draws
    optimiser: torch.optim.Optimizer
    world: World
    step: int = 0
    best: tuple[float, list[Tensor]] | None = None
    best_step: int | None = None
    stale: int = 0
    losses: list[Tensor] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def run(self, file: StateFile) -> None:
        """All steps that are left, or as many as the held-out loss allows."""
        steps, spent = self.method.steps, self.seconds
        noted, evaluated = _places(steps, CURVE_POINTS), _places(steps, self.method.evaluations)
        began = perf_counter()
        if self.step == 0 and not self.curve:
            self.evaluate()
        with rounds("steps", steps, done=self.step) as loop:
            while self.step < steps and not self._exhausted():
                self.descend()
                self.seconds = spent + perf_counter() - began
                loop.advance()
                if self.step in evaluated:
                    self.evaluate()
                elif self.step in noted:
                    self.note(None)
                if file.due():
                    file.save(self.stored())

    def descend(self) -> None:
        """One step."""
        share = rate_share(self.step, self.method.steps, self.method.warm_up)
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * share
        loss = self.loss(self.draws.step(self.step)) * (len(self.draws.counts) / self.draws.tasks)  # of the mean over all tasks
        self.optimiser.zero_grad()
        # Autocast is for forward passes alone; backward passes follow them.
        precision = "tf32" if self.method.forward_precision == "tf32" else "float32"
        with computing_in(precision, loss.device.type), strictly_deterministic():
            loss.backward()
        loss = self._added_up(loss.detach())
        self.optimiser.step()
        self.losses.append(loss)
        self.step += 1

    def loss(self, index: Tensor) -> Tensor:
        """Of the samples `index`, with what moves as it is."""
        for layer in self.layers.values():
            layer.install()
        recompute = self.method.checkpointing and torch.is_grad_enabled()
        with computing_in(self.method.forward_precision, self.lesson.targets[-1].rows.device.type):
            batch, blocks = self.lesson.samples.take(index), self.method.block_weight > 0
            return self.lesson.loss(points(self.model, batch, blocks, self._recomputed if recompute else run_block), index)

    @torch.no_grad()
    def evaluate(self) -> None:
        """Takes the held-out loss, and keeps what moves if it is the lowest so far."""
        tasks = self.draws.held_out()
        if not tasks:
            return self.note(None)
        own = (sum(float(self.loss(part)) * len(part) for part in parts) / sum(map(len, parts)) for parts in tasks)
        held_out = fmean(self.world.all_of(own))
        self.note(held_out)
        self.world.check_same(self.moving(), f"distillation, step {self.step}")
        self.stale += 1
        if self.best is None or held_out < self.best[0]:
            self.best = (held_out, [parameter.detach().clone() for parameter in self.moving()])
            self.best_step, self.stale = self.step, 0
        return None

    def note(self, held_out: float | None) -> None:
        """Adds a point to the curve; NumericalError if the loss is NaN or Inf."""
        loss = float(torch.stack(self.losses).mean()) if self.losses else None
        if not all(math.isfinite(number) for number in (loss, held_out) if number is not None):
            remedy = "Lower `learning_rate`, `scale_rate` and `norm_rate`."
            raise NumericalError("the loss is NaN or Inf.", where=f"distillation, step {self.step}", remedy=remedy)
        self.curve.append({"step": self.step, "loss": loss, "held_out": held_out, "seconds": round(self.seconds, 3)})
        self.losses.clear()

    def moving(self) -> list[Tensor]:
        """All parameters that train, in the optimiser's order."""
        return [parameter for group in self.optimiser.param_groups for parameter in group["params"]]

    @torch.no_grad()
    def put(self, values: list[Tensor]) -> None:
        """Gives what moves these values."""
        for parameter, value in zip(self.moving(), values, strict=True):
            parameter.copy_(value)

    def stored(self) -> dict[str, Any]:
        """All that a run needs to go on; the samples of a step follow from its number."""
        values = [parameter.detach() for parameter in self.moving()]
        names = ("step", "best", "best_step", "stale", "losses", "curve", "seconds")
        return {"values": values, "optimiser": self.optimiser.state_dict(), **{name: getattr(self, name) for name in names}}

    def restore(self, stored: dict[str, Any]) -> None:
        """Goes to where `stored` was taken."""
        self.put(stored.pop("values"))
        stored["losses"] = [loss.to(self.lesson.targets[-1].rows.device) for loss in stored["losses"]]
        self.optimiser.load_state_dict(stored.pop("optimiser"))
        for name, value in stored.items():
            setattr(self, name, value)

    def _added_up(self, loss: Tensor) -> Tensor:
        """Gives what moves the gradients of all processes' tasks, in one message with the loss, of which it returns the sum."""
        if self.world.size == 1:
            return loss
        moving = [parameter for parameter in self.moving() if parameter.grad is not None]  # none reaches embeddings' norms
        gradients = torch.cat([*(parameter.grad.flatten() for parameter in moving), loss[None]])
        self.world.add_up(gradients)
        *parts, loss = gradients.split([*(parameter.numel() for parameter in moving), 1])
        for parameter, part in zip(moving, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        return loss[0].clone()

    def _exhausted(self) -> bool:
        return self.method.patience is not None and self.stale >= self.method.patience

    def _recomputed(self, model: BlockModel, block: Block, state: Any) -> Any:
        return checkpoint(run_block, model, block, state, use_reentrant=False)


def _places(steps: int, count: int) -> frozenset[int]:
    """`count` steps, evenly spread, the last one among them."""
    return frozenset(round(steps * place / count) for place in range(1, count + 1))
