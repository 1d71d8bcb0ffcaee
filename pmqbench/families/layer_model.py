"""The BlockModel of an Architecture: its table of layers as a module, run by its functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pmqbench.checkpoints import Checkpoint
from pmqbench.families.base import Block, Blockwise
from pmqbench.families.layers import Architecture, Embedding, Layer, Linear, tensor_shapes


class LayerModel(Blockwise, nn.Module):
    """An architecture with weights; submodules and state dict have the canonical names."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture, self.blocks = architecture, architecture.blocks()
        for name, layer in architecture.layers().items():
            *path, last = name.split(".")
            parent: nn.Module = self
            for part in path:
                if part not in parent._modules:
                    parent.add_module(part, nn.Module())
                parent = parent.get_submodule(part)
            parent.add_module(last, _module(layer))

    def embed(self, batch: Any) -> Any:
        """Model input -> the state that enters the first block, on the model's device."""
        device = next(self.parameters()).device
        moved = {name: part.to(device) for name, part in batch.items()} if isinstance(batch, Mapping) else batch.to(device)
        return self.architecture.embed(self.get_submodule, moved)

    def run_stage(self, block: Block, stage: int, state: Any) -> Any:
        """State before a stage of `block` -> state after it."""
        return self.architecture.run_stage(self.get_submodule, block, stage, state)

    def finish(self, state: Any) -> Tensor:
        """State after the last block -> the model's output."""
        return self.architecture.finish(self.get_submodule, state)

    def hidden(self, block: Block, state: Any) -> tuple[Tensor, Tensor | None]:
        """What `block` made of its state, and the mask of real tokens."""
        return self.architecture.hidden(block, state)

    def token_weights(self, block: Block, layer: str, state: Any, class_only: bool) -> Tensor | None:
        """Weight of each token of `layer`'s input."""
        return self.architecture.token_weights(block, layer, state, class_only)


def _module(layer: Layer) -> nn.Module:
    if isinstance(layer, Linear):
        return nn.Linear(layer.inputs, layer.outputs)
    if isinstance(layer, Embedding):
        # nn.Embedding's own initialisation on the meta device would import half of torch's compiler (1 s).
        return nn.Embedding.from_pretrained(torch.empty(layer.rows, layer.width))
    return nn.LayerNorm(layer.width, eps=layer.eps)


def build(architecture: Architecture, checkpoint: Checkpoint) -> LayerModel:
    """A float32 LayerModel in eval mode with every tensor of `checkpoint` loaded, checked for shape and finiteness."""
    with torch.device("meta"):
        model = LayerModel(architecture)
    model.load_state_dict(checkpoint.loaded(tensor_shapes(architecture.layers())), assign=True)
    return model.eval().requires_grad_(False)
