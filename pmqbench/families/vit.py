"""CLIP's vision transformer with separate q, k, v, run block by block, under transformers' CLIPVisionModel names.

One plain module serves open_clip and transformers checkpoints alike, and a job that only runs a tower imports torch alone
(2 s) instead of open_clip or transformers (5 s). tests/families compare it with both libraries' own forward passes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pmqbench.checkpoints import Checkpoint
from pmqbench.errors import DataError
from pmqbench.families.base import Block, Blockwise
from pmqbench.families.vision_config import VisionConfig

# Patch tokens of the last block reach the output only through k and v; elsewhere they keep this much weight, so that
# moments stay well conditioned (docs/quantization.md, `last_block_tokens: class`).
PATCH_TOKEN_WEIGHT = 0.01


State = Tensor | tuple[Tensor, Tensor]


class Attention(nn.Module):
    """Multi-head self-attention with separate projections."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def mix(self, x: Tensor, queries: int | None = None) -> Tensor:
        """What `out_proj` reads of the first `queries` tokens (all): (n, tokens, width) -> (n, queries, width)."""
        q, k, v = (
            layer(part).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, part in ((self.q_proj, x[:, :queries]), (self.k_proj, x), (self.v_proj, x))
        )
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class MLP(nn.Module):
    """fc2(act(fc1(x))); "quick_gelu" is x * sigmoid(1.702 x), the activation of OpenAI's CLIP."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.quick = {"quick_gelu": True, "gelu": False}[config.activation]
        self.fc1, self.fc2 = nn.Linear(config.width, config.mlp_width), nn.Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        hidden = self.fc1(x)
        # In place: these are the widest tensors, and every new one costs the time of touching its pages.
        return self.fc2(hidden.mul_((1.702 * hidden).sigmoid_()) if self.quick else F.gelu(hidden))


class EncoderLayer(nn.Module):
    """Pre-norm residual block, in three stages; all of x, (n, tokens, width)."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config.width, config.heads)
        self.layer_norm1 = nn.LayerNorm(config.width, eps=config.eps)
        self.mlp = MLP(config)
        self.layer_norm2 = nn.LayerNorm(config.width, eps=config.eps)

    def mix(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Attention up to its output projection, beside the residual."""
        return x, self.self_attn.mix(self.layer_norm1(x))

    def attend(self, state: tuple[Tensor, Tensor]) -> Tensor:
        """The rest of residual attention."""
        x, mixed = state
        return x + self.self_attn.out_proj(mixed)

    def transform(self, x: Tensor) -> Tensor:
        """Residual MLP."""
        return x + self.mlp(self.layer_norm2(x))

    def class_token(self, x: Tensor) -> Tensor:
        """The class token alone, (n, 1, width): all that the tower's output takes of its last layer."""
        mixed = self.self_attn.mix(self.layer_norm1(x), queries=1)
        return self.transform(x[:, :1] + self.self_attn.out_proj(mixed))


class Embeddings(nn.Module):
    """Patch convolution, class token and learned positions."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(config.width))
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size, bias=False)
        positions = torch.zeros((config.image_size // config.patch_size) ** 2 + 1, config.width)
        # nn.Embedding's own initialisation on the meta device would import half of torch's compiler (1 s).
        self.position_embedding = nn.Embedding.from_pretrained(positions)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (n, 3, h, w) -> (n, 1 + patches, width)."""
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(len(pixels), 1, -1), patches], dim=1)
        return tokens + self.position_embedding.weight


class VisionTower(Blockwise, nn.Module):
    """CLIP's vision transformer as a BlockModel.

    Its input are uint8 images (n, 3, h, w), its output is the pooled class token (n, width), before the projection.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.width, eps=config.eps)  # transformers' spelling
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.post_layernorm = nn.LayerNorm(config.width, eps=config.eps)
        self.register_buffer("mean", torch.tensor(config.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(3, 1, 1), persistent=False)
        self.blocks = config.blocks()

    def embed(self, batch: Tensor) -> Tensor:
        """uint8 RGB images (n, 3, h, w) of the tower's size -> (n, tokens, width); DataError for images of another size."""
        size = self.config.image_size
        if batch.shape[-2:] != (size, size):
            what = f"images are {batch.shape[-1]} x {batch.shape[-2]} pixels, the model takes {size} x {size}."
            raise DataError(what, where="vision tower", remedy="Set `image_size` of the task's source to the model's.")
        pixels = (batch.to(self.mean.device).to(self.mean.dtype) / 255 - self.mean) / self.std
        return self.pre_layrnorm(self.embeddings(pixels))

    def run_stage(self, block: Block, stage: int, state: State) -> State:
        """Hidden states (n, tokens, width); after the first stage with what attention mixed beside them."""
        layer = self.get_submodule(block.name)
        return (layer.mix, layer.attend, layer.transform)[stage](state)

    def finish(self, state: Tensor) -> Tensor:
        """(n, tokens, width) -> pooled class token (n, width)."""
        return self.post_layernorm(state[:, 0])

    def run_last_block(self, state: Tensor) -> Tensor:
        """(n, tokens, width) -> the class token alone, (n, 1, width): all that the output takes of it."""
        return self.encoder.layers[-1].class_token(state)

    def hidden(self, block: Block, state: Tensor) -> tuple[Tensor, None]:
        """The state itself; images have no padding."""
        return state, None

    def token_weights(self, block: Block, layer: str, state: State, class_only: bool) -> Tensor | None:
        """Only the last block with `class_only` weighs tokens differently."""
        if not class_only or layer not in block.class_token_layers:
            return None
        state = state[0] if isinstance(state, tuple) else state
        weights = torch.full(state.shape[:2], PATCH_TOKEN_WEIGHT, dtype=state.dtype, device=state.device)
        weights[:, 0] = 1
        return weights.flatten()


def build_tower(config: VisionConfig, checkpoint: Checkpoint) -> VisionTower:
    """A float32 VisionTower in eval mode with every tensor of `checkpoint` loaded, checked for shape and finiteness."""
    with torch.device("meta"):
        tower = VisionTower(config)
    shapes = {name: tuple(parameter.shape) for name, parameter in tower.state_dict().items()}
    tower.load_state_dict(checkpoint.loaded(shapes), assign=True)
    tower.mean, tower.std = torch.tensor(config.mean).view(3, 1, 1), torch.tensor(config.std).view(3, 1, 1)
    return tower.eval().requires_grad_(False)
