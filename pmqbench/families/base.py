"""What a model family tells the rest: how its checkpoints read, and how its model runs block by block.

A family knows nothing of quantization; quantization knows nothing of CLIP or T5. Between them stand `Block`, `Group` and the
`BlockModel` protocol. The state that flows from block to block is opaque to everyone but the family.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pmqbench.checkpoints import Checkpoint
from pmqbench.registry import Registry

if TYPE_CHECKING:
    import torch

    from pmqbench.families.files import Deployed
    from pmqbench.families.sizes import ModelSize


@dataclass(frozen=True)
class Group:
    """Linear layers of a block that read one shared input, so that one pair of moments serves them all.

    Attributes:
        layers: module names relative to the model, e.g. ("encoder.layers.0.self_attn.q_proj", ...).
        norm: the norm module whose output is this input (AWQ folds scales into it; `fit_norms` refits it), or None.
        producer: the linear layer whose output reaches this input scaled channel by channel but otherwise unchanged in the
            channel order (v -> out: attention averages over tokens, not over channels), so that scales fold exactly; or None.
        stage: which stage of its block runs these layers.
        mlp_output: whether these are the last layers of an MLP, which some methods treat apart (fc2, wo, down_proj).
    """

    layers: tuple[str, ...]
    norm: str | None = None
    producer: str | None = None
    stage: int = 0
    mlp_output: bool = False


@dataclass(frozen=True)
class Block:
    """One residual block: its groups in forward order.

    A block runs in one or more stages, so that calibration can go on behind a group without running the block from its start.

    Attributes:
        name: module name relative to the model, e.g. "encoder.layers.0".
        groups: the groups of linear layers in the order the forward pass meets them.
        class_token_layers: layers of which only the class token's output reaches the model's output (last block of a ViT: all
            but k and v). Their moments may count the other tokens less (`last_block_tokens: class`).
        score_layers: layers whose outputs only meet in attention scores (q and k): AWQ does not clip their ranges.
        also: modules outside `name` that its run uses (T5: the encoder's final norm, at the end of its last block).
        wide: stages that end with more to keep than a block's input (what attention mixed, beside the residual); where memory
            is short they are run again instead.
    """

    name: str
    groups: tuple[Group, ...]
    class_token_layers: frozenset[str] = frozenset()
    score_layers: frozenset[str] = frozenset()
    also: tuple[str, ...] = ()
    wide: frozenset[int] = frozenset()

    @property
    def stages(self) -> int:
        """How many stages it runs in."""
        return 1 + max(group.stage for group in self.groups)


class BlockModel(Protocol):
    """A torch.nn.Module that runs block by block. Linear layers are `torch.nn.Linear`, found by `get_submodule(name)`.

    `Blockwise` has what follows from the rest.
    """

    blocks: tuple[Block, ...]

    def embed(self, batch: Any) -> Any:
        """Model input -> the state that enters the first block.

        An input is a tensor or a mapping of tensors whose first dimension are the samples: uint8 images (n, 3, h, w), token ids
        and masks (n, tokens). It may be on another device than the model.
        """

    def run_stage(self, block: Block, stage: int, state: Any) -> Any:
        """State before a stage of `block` -> state after it."""

    def run_block(self, block: Block, state: Any) -> Any:
        """State before `block` -> state after it."""

    def run_last_block(self, state: Any) -> Any:
        """`run_block` of the last block, free to leave out what `hidden` and `finish` do not read of it."""

    def finish(self, state: Any) -> torch.Tensor:
        """State after the last block -> the model's output, e.g. pooled features (n, width)."""

    def hidden(self, block: Block, state: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What `block` made of the state before it: hidden states (n, tokens, width) in the state after it.

        Beside them the mask of real tokens, (n, tokens), bool; None if all are real.
        """

    def features(self, state: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        """State after the last block -> the states (n, tokens, width) that the answer is read from, and their mask.

        One token, the pooled output, where the model pools; of a decoder the normed states that give the logits.
        """

    def with_own_answers(self, batch: Any, where: str) -> Any:
        """`batch` as the model alone answers it: a decoder reads this model's own greedy answers, whatever it read before.

        Models without a decoder return it as it is. NumericalError naming `where` if the outputs are NaN or Inf.
        """

    def token_weights(self, block: Block, layer: str, state: Any, class_only: bool) -> torch.Tensor | None:
        """Weight of each token of `layer`'s input, shape (tokens,) flattened like the input; None means all 1.

        0 for padding. With `class_only`, tokens other than the class token weigh 0.01 in `block.class_token_layers`.
        """


class Blockwise:
    """The whole forward pass of a BlockModel, from its parts."""

    def run_block(self: BlockModel, block: Block, state: Any) -> Any:
        """State before `block` -> state after it."""
        for stage in range(block.stages):
            state = self.run_stage(block, stage, state)
        return state

    def run_last_block(self: BlockModel, state: Any) -> Any:
        """The whole of it, unless a model knows better."""
        return self.run_block(self.blocks[-1], state)

    def features(self: BlockModel, state: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The model's output as one token, for models that pool."""
        return self.finish(state)[:, None], None

    def with_own_answers(self: BlockModel, batch: Any, where: str) -> Any:
        """The batch itself: most models have no decoder."""
        return batch

    def forward(self: BlockModel, batch: Any) -> torch.Tensor:
        """Model input -> the model's output."""
        state = self.embed(batch)
        for block in self.blocks[:-1]:
            state = self.run_block(block, state)
        return self.finish(self.run_last_block(state))


class Family(Protocol):
    """How checkpoints of a family read, save and become a model. Implementations: one file each in this package.

    Families inherit what has to do with files from `files.ModelFiles`.

    Attributes:
        protocol: name of the evaluation protocol, a file of pmqbench/evaluation/protocols/.
        weights_file, config_file: names in a model's folder.
        model_files: names of all files that make a model.
        exported_files: names of `Deployed.files`.
    """

    protocol: ClassVar[str]
    weights_file: ClassVar[str]
    config_file: ClassVar[str]
    exported_files: ClassVar[tuple[str, ...]]

    @property
    def model_files(self) -> tuple[str, ...]: ...  # noqa: D102 - an attribute of the protocol

    def needed(self, names: Collection[str], base: bool, where: str) -> list[str]:
        """Those of a folder's or repository's files that make a model, or a base; DataError if it is none."""

    def config_name(self, names: Collection[str]) -> str:
        """Which of the needed files is the model's config."""

    def bring(self, files: Mapping[str, Path], folder: Path, base: bool) -> None:
        """Puts needed files, by name, into a model's folder."""

    def admit(self, expert: Path, base: Path, label: str) -> None:
        """Makes what was brought into a folder an expert of the base's suite; DataError if it is unlike the base."""

    def check_like(self, expert: Path, base: Path, label: str) -> None:
        """DataError if an expert is unlike the base in what the forward pass reads."""

    def checkpoint(self, folder: Path, label: str = "") -> Checkpoint:
        """The merged-and-quantized part of the base, an expert or a merged model in `folder`, under canonical names."""

    def save(self, folder: Path, tensors: Mapping[str, torch.Tensor], config_from: Path, metadata: Mapping[str, str]) -> None:
        """Writes canonical tensors into `folder` in the family's native layout, with the config copied from `config_from`."""

    def build(self, folder: Path, label: str = "") -> BlockModel:
        """The model of `folder`, float32, in eval mode, every tensor loaded and checked."""

    def linear_shapes(self, config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        """(out, in) of every quantizable linear layer, by canonical name, from the model's config file alone."""

    def size(self, config: Mapping[str, Any]) -> ModelSize:
        """How large the model is, from its config file alone; what a base's config does not say is a typical value."""

    def deployed(self, folder: Path, base: Path) -> Deployed:
        """How transformers loads the model of `folder`; processor or tokenizer are those of the `base`'s folder."""


class ZeroShotFamily(Family, Protocol):
    """A family whose protocol `uses_heads`: class names, put into prompts, become the classifier of a task."""

    def head(self, base: Path, classnames: list[str], templates: list[str]) -> dict[str, torch.Tensor]:
        """The task's zero-shot head from the base.

        Returns:
            {"classes": (classes, dim) normalised, "logit_scale": () factor of cosines, and, where the model's features are
            projected before they are compared, "projection": (dim, width)}.
        """


DECODER_START = 0
"""Token that decoders start from and that pads answers; families of text-to-text models refuse those with another."""

FAMILIES: Registry[Any] = Registry("model family", "pmqbench.families")
