"""A model as a table of layers by canonical name; tensor names, shapes and the module (`layer_model.py`) follow from it.

No torch here: config validation reads the table while Snakemake parses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from pmqbench.families.base import Block

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Linear:
    """x W^T + b."""

    outputs: int
    inputs: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor."""
        return {"weight": (self.outputs, self.inputs), "bias": (self.outputs,)}


@dataclass(frozen=True)
class Norm:
    """Layer norm with weight and bias."""

    width: int
    eps: float

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor."""
        return {"weight": (self.width,), "bias": (self.width,)}


@dataclass(frozen=True)
class Embedding:
    """One vector a token, position or type."""

    rows: int
    width: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor."""
        return {"weight": (self.rows, self.width)}


Layer: TypeAlias = Linear | Norm | Embedding
Find: TypeAlias = "Callable[[str], nn.Module]"
"""The module of a layer, by its canonical name."""


def tensor_shapes(layers: Mapping[str, Layer]) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor by canonical name."""
    return {f"{name}.{part}": shape for name, layer in layers.items() for part, shape in layer.shapes().items()}


def linear_shapes(layers: Mapping[str, Layer], blocks: Iterable[Block]) -> dict[str, tuple[int, int]]:
    """(out, in) of the blocks' linear layers, in forward order."""
    names = [name for block in blocks for group in block.groups for name in group.layers]
    return {name: (layers[name].outputs, layers[name].inputs) for name in names}


class Architecture(Protocol):
    """What a family says of its model, so that `LayerModel` is a BlockModel: the layers, the blocks, and pure functions.

    The functions find layers by name, so that their weights may change between calls; states are the architecture's own.
    Modules are imported where they are used: families are imported while Snakemake parses.
    """

    def layers(self) -> dict[str, Layer]:
        """Every layer by canonical name."""

    def blocks(self) -> tuple[Block, ...]:
        """The blocks in forward order."""

    def embed(self, layer: Find, batch: Any) -> Any:
        """Model input, on the model's device -> the state that enters the first block."""

    def run_stage(self, layer: Find, block: Block, stage: int, state: Any) -> Any:
        """State before a stage of `block` -> state after it."""

    def finish(self, layer: Find, state: Any) -> Tensor:
        """State after the last block -> the model's output."""

    def hidden(self, block: Block, state: Any) -> tuple[Tensor, Tensor | None]:
        """What `block` made of its state, and the mask of real tokens, as in BlockModel."""

    def token_weights(self, block: Block, layer: str, state: Any, class_only: bool) -> Tensor | None:
        """Weight of each token of `layer`'s input, as in BlockModel."""
