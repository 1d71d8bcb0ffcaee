"""How large a model is, from its config alone: what memory, time and disk of jobs are computed from. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

TEXT_TOKENS, ANSWER_TOKENS = 64, 4
"""Tokens of a typical prompt and of a typical answer, where only the data could tell (of GLUE's prompts the longest mean)."""
PARAMETER_BYTES = 4  # of float32, in which models are held and written


@dataclass(frozen=True)
class ModelSize:
    """A model's size.

    Attributes:
        layers: (out, in, tokens of one example) of every quantizable linear layer, in forward order.
        other: parameters that are merged beside them: embeddings, norms, biases.
        beside: parameters of the base that are not merged (a CLIP's text tower); for heads and downloads alone.
        blocks: residual blocks.
        width, tokens: of the states between blocks; the tokens of all stacks together.
        input_bytes: of one example as a batch holds it.
        largest: parameters of the largest tensor.
    """

    layers: tuple[tuple[int, int, int], ...]
    other: int
    beside: int
    blocks: int
    width: int
    tokens: int
    input_bytes: int
    largest: int

    @classmethod
    def of(
        cls, shapes: Mapping[str, tuple[int, int]], tokens_of: Callable[[str], int], tensors: Iterable[int], **rest: int
    ) -> ModelSize:
        """Of a model.

        Args:
            shapes: (out, in) by linear layer.
            tokens_of: how many of one example a layer sees.
            tensors: parameters of every tensor that is merged, the linear layers' among them.
            rest: the other attributes.
        """
        tensors, layers = list(tensors), tuple((*shape, tokens_of(name)) for name, shape in shapes.items())
        linear = sum(out * inputs for out, inputs, _ in layers)
        return cls(layers, other=sum(tensors) - linear, largest=max(tensors), **rest)

    @cached_property
    def linear(self) -> int:
        """Weights of the linear layers."""
        return sum(out * inputs for out, inputs, _ in self.layers)

    @property
    def parameters(self) -> int:
        """Of all that is merged."""
        return self.linear + self.other

    @property
    def model_bytes(self) -> int:
        """Of a merged model, an expert, a quantized model at full precision."""
        return PARAMETER_BYTES * self.parameters

    @property
    def base_bytes(self) -> int:
        """Of the whole base."""
        return PARAMETER_BYTES * (self.parameters + self.beside)

    @property
    def state_bytes(self) -> int:
        """Of one example's states between two blocks."""
        return PARAMETER_BYTES * self.tokens * self.width

    @cached_property
    def forward_flops(self) -> int:
        """Of one example's forward pass through the linear layers; attention's own products add some percent."""
        return sum(2 * out * inputs * tokens for out, inputs, tokens in self.layers)

    @cached_property
    def moment_flops(self) -> int:
        """Of one example's second moments of every layer's inputs."""
        return sum(inputs * inputs * tokens for _, inputs, tokens in self.layers)

    @cached_property
    def target_flops(self) -> int:
        """Of one product of every layer's weights with its second moments."""
        return sum(2 * out * inputs * inputs for out, inputs, _ in self.layers)

    @cached_property
    def columns(self) -> int:
        """Columns of all linear layers: steps of a rounding loop."""
        return sum(inputs for _, inputs, _ in self.layers)

    @cached_property
    def widest_input(self) -> int:
        """Inputs of the widest layer, whose second moments are the largest."""
        return max((inputs for _, inputs, _ in self.layers), default=0)
