"""A block model that is no CLIP, its experts, and float64 references written plainly."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pmqbench.checkpoints import Checkpoint, save_checkpoint
from pmqbench.families.base import Block, Blockwise, Group
from pmqbench.quantization.calibrate import Expert, quantize_model

WIDTH, HIDDEN, TOKENS = 12, 20, 5


class GatedBlock(nn.Module):
    """x + down(relu(gate(norm x)) * up(norm x)): a gated MLP without attention."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.gate, self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm(x)
        return x + self.down(self.gate(z).relu() * self.up(z))


class GatedStack(Blockwise, nn.Module):
    """A BlockModel whose state is a dict. A batch is (n, tokens, width + 1), its last channel 1 for tokens, 0 for padding."""

    def __init__(self, blocks: int = 2) -> None:
        super().__init__()
        self.stem = nn.Linear(WIDTH, WIDTH)
        self.body = nn.ModuleList(GatedBlock() for _ in range(blocks))
        self.blocks = tuple(
            Block(
                f"body.{i}",
                (
                    Group((f"body.{i}.gate", f"body.{i}.up"), norm=f"body.{i}.norm"),
                    Group((f"body.{i}.down",), producer=f"body.{i}.up", mlp_output=True),
                ),
                class_token_layers=frozenset({f"body.{i}.gate"}) if i == blocks - 1 else frozenset(),
                score_layers=frozenset({f"body.{i}.gate"}),
            )
            for i in range(blocks)
        )

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        batch = batch.to(self.stem.weight.dtype)
        return {"x": self.stem(batch[..., :-1]), "mask": batch[..., -1]}

    def run_stage(self, block: Block, stage: int, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"x": self.get_submodule(block.name)(state["x"]), "mask": state["mask"]}

    def finish(self, state: dict[str, Tensor]) -> Tensor:
        return state["x"].mean(1)

    def hidden(self, block: Block, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return state["x"], state["mask"] > 0

    def token_weights(self, block: Block, layer: str, state: dict[str, Tensor], class_only: bool) -> Tensor | None:
        weights = state["mask"].clone()
        if class_only and layer in block.class_token_layers:
            weights[:, 1:] *= 0.01
        return weights.flatten()


@dataclass
class Suite:
    """Merged model, experts and calibration batches of three tasks."""

    merged: GatedStack
    models: dict[str, GatedStack]
    experts: dict[str, Expert]
    calibration: dict[str, list[Tensor]]

    def model(self) -> GatedStack:
        """A fresh copy of the merged model."""
        return copy.deepcopy(self.merged)


def make_suite(folder: Path, samples: int = 24, spread: float = 0.15) -> Suite:
    """The same suite whoever makes it, experts in `folder`; spread 0 makes all experts equal the merged model."""
    torch.manual_seed(7)
    merged = frozen(GatedStack())
    for name, parameter in merged.named_parameters():
        parameter.add_(0.3 * torch.randn_like(parameter) * (1 if "norm" in name else 0.3))
    models, experts, calibration = {}, {}, {}
    for i, task in enumerate(("one", "two", "three")):
        model = copy.deepcopy(merged)
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
        path = folder / f"{task}.safetensors"
        save_checkpoint(path, model.state_dict())
        models[task] = model
        experts[task] = Expert(f"expert {task}", Checkpoint(path, label=f"expert {task}"), lambda m=model: copy.deepcopy(m))
        batch = torch.randn(samples, TOKENS, WIDTH + 1) * (1 + i) + i
        batch[..., -1] = 1
        batch[: samples // 2, -1, -1] = 0
        calibration[task] = list(batch.split(7))
    return Suite(merged, models, experts, calibration)


def frozen(model: nn.Module) -> nn.Module:
    return model.eval().requires_grad_(False)


def inputs64(model: nn.Module, layer: str, batches: list[Tensor]) -> Tensor:
    """The inputs (tokens, in) of a layer in float64, padding left out, by a whole forward pass."""
    model = copy.deepcopy(model).double()
    caught = []
    model.get_submodule(layer).register_forward_pre_hook(lambda _, args: caught.append(args[0].flatten(0, -2)))
    for batch in batches:
        model(batch)
    kept = torch.cat([batch[..., -1].flatten() for batch in batches]) > 0
    return torch.cat(caught)[kept]


@dataclass
class Reference:
    """The problem of one layer in float64, from inputs x[t] and target inputs y[t] (tokens, in)."""

    merged: Tensor
    teachers: dict[str, Tensor]
    x: dict[str, Tensor]
    y: dict[str, Tensor]
    anchor: float
    weight: str = "frobenius"

    def __post_init__(self) -> None:
        self.second = {t: x.T @ x / len(x) for t, x in self.x.items()}
        raw = {t: 1 / h.pow(2).sum().sqrt() if self.weight == "frobenius" else 1.0 for t, h in self.second.items()}
        if self.weight == "tokens":
            raw = {t: float(len(x)) for t, x in self.x.items()}
        self.c = {t: float(w / sum(raw.values())) for t, w in raw.items()}
        self.pooled = sum(self.c[t] * self.second[t] for t in self.x)
        self.mu = float(self.pooled.diagonal().mean())
        self.damped = self.pooled + self.anchor * self.mu * torch.eye(len(self.pooled), dtype=torch.float64)

    def target(self) -> Tensor:
        """W* = (sum_t c_t W_t C_t + lambda mu W_merged) H_a^-1."""
        right = sum(self.c[t] * self.teachers[t] @ (self.y[t].T @ self.x[t] / len(self.x[t])) for t in self.x)
        return (right + self.anchor * self.mu * self.merged) @ torch.linalg.inv(self.damped)

    def objective(self, weight: Tensor) -> float:
        """J of a weight, token by token."""
        weight = weight.double()
        fit = sum(self.c[t] * self.merging(weight, t) for t in self.x)
        return float(fit + self.anchor * self.mu * (weight - self.merged).pow(2).sum())

    def merging(self, weight: Tensor, task: str, own: bool = True) -> float:
        """E|W x - W_t y|^2; with y = x if not `own`."""
        wanted = (self.y if own else self.x)[task] @ self.teachers[task].T
        return float((self.x[task] @ weight.double().T - wanted).pow(2).sum(1).mean())


def reference(
    suite: Suite, model: nn.Module, layer: str, anchor: float, share: float = 0.0, weight: str = "frobenius"
) -> Reference:
    """Reference of `layer` whose inputs are those it has in `model`."""
    x = {t: inputs64(model, layer, batches) for t, batches in suite.calibration.items()}
    own = {t: inputs64(suite.models[t], layer, batches) for t, batches in suite.calibration.items()}
    return Reference(
        suite.merged.get_submodule(layer).weight.double(),
        {t: m.get_submodule(layer).weight.double() for t, m in suite.models.items()},
        x,
        {t: share * own[t] + (1 - share) * x[t] for t in x},
        anchor,
        weight,
    )


def layers(model: GatedStack) -> list[str]:
    """All linear layers in forward order."""
    return [layer for block in model.blocks for group in block.groups for layer in group.layers]


def close(a: float, b: float, relative: float = 1e-4) -> bool:
    """a and b agree to `relative`."""
    return abs(a - b) <= relative * max(abs(a), abs(b))


def changed(a: dict, b: dict) -> float:
    """Share of codes that differ between two sets of LayerCodes."""
    differ = sum(int((a[k].codes != b[k].codes).sum()) for k in a)
    return differ / sum(c.codes.numel() for c in a.values())


def run(suite, method, experts=None, calibration=None):
    """(quantized model, result) of `method` on the suite's merged model."""
    model = suite.model()
    given = suite.experts if experts is None else experts
    result = quantize_model(model, method, calibration or suite.calibration, given)
    return model, result
