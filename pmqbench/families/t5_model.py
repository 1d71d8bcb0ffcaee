"""T5 (Raffel et al., 2020), run block by block: a plain module under the names of transformers' state dict.

A job that runs it imports torch alone (2 s) instead of transformers (5 s). tests/families compare its logits and its greedy
answers with transformers' own.

The state between blocks is a dict: `encoder`, `decoder` (n, tokens, d_model), their masks (n, tokens), bool, and the position
bias that the first block of a stack makes for all its blocks; after an attention's first stage also `mixed`. Hidden states of
padding are kept at zero: nothing attends to padding, and so it enters no comparison of block outputs either (AWQ's search).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pmqbench.checkpoints import Checkpoint
from pmqbench.errors import NumericalError
from pmqbench.families.base import DECODER_START, Block, Blockwise
from pmqbench.families.t5_config import T5Config
from pmqbench.tasks.text import MAX_ANSWER_TOKENS

State = dict[str, Tensor]
Batch = Mapping[str, Tensor]
KeysValues = tuple[Tensor, Tensor]
ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "gelu_new": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu}


class RMSNorm(nn.Module):
    """x / sqrt(mean x^2 + eps) * weight."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.empty(config.d_model)), config.eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_model) -> (..., d_model)."""
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps))


class Attention(nn.Module):
    """Multi-head attention without biases or scaling; with `positions` it owns its stack's relative position bias."""

    def __init__(self, config: T5Config, positions: bool = False) -> None:
        super().__init__()
        inner = config.num_heads * config.d_kv
        self.width, self.max_distance = config.d_kv, config.max_distance
        self.q, self.k, self.v = (nn.Linear(config.d_model, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, config.d_model, bias=False)
        if positions:
            self.relative_attention_bias = nn.Embedding.from_pretrained(torch.empty(config.buckets, config.num_heads))

    def keys_values(self, memory: Tensor) -> KeysValues:
        """(n, keys, d_model) -> keys and values (n, heads, keys, d_kv)."""
        return self._split(self.k(memory)), self._split(self.v(memory))

    def mix(self, x: Tensor, bias: Tensor, memory: Tensor | None = None, cache: KeysValues | None = None) -> Tensor:
        """What `o` reads: x (n, queries, d_model) attends to itself, to `memory` (n, keys, d_model), or to `cache`."""
        q = self._split(self.q(x))
        k, v = self.keys_values(x if memory is None else memory) if cache is None else cache
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return mixed.transpose(1, 2).flatten(2)

    def position_bias(self, tokens: int, causal: bool) -> Tensor:
        """(1, heads, tokens, tokens), by the bucket of key position minus query position."""
        position = torch.arange(tokens, device=self.q.weight.device)
        distance = position[None, :] - position[:, None]
        buckets = position_buckets(distance, causal, self.relative_attention_bias.num_embeddings, self.max_distance)
        return self.relative_attention_bias(buckets).permute(2, 0, 1)[None]

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.width)).transpose(1, 2)


class FeedForward(nn.Module):
    """wo(act(wi x)), or gated wo(act(wi_0 x) * wi_1 x)."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.gated, self.activation = config.gated, ACTIVATIONS[config.activation]
        for name in ("wi_0", "wi_1") if config.gated else ("wi",):
            self.add_module(name, nn.Linear(config.d_model, config.d_ff, bias=False))
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_model) -> (..., d_model)."""
        return self.wo(self.activation(self.wi_0(x)) * self.wi_1(x) if self.gated else self.activation(self.wi(x)))


class Sublayer(nn.Module):
    """A module under transformers' name for it, and the norm before it."""

    def __init__(self, config: T5Config, name: str, module: nn.Module) -> None:
        super().__init__()
        self.kind = name
        self.add_module(name, module)
        self.layer_norm = RMSNorm(config)

    @property
    def body(self) -> nn.Module:
        """The module."""
        return self.get_submodule(self.kind)


class T5Block(nn.Module):
    """Self-attention, cross-attention (decoder), feed-forward; each pre-norm and residual.

    It runs in stages: each attention up to its output projection, then that; last the feed-forward layer.
    """

    def __init__(self, config: T5Config, decoder: bool, positions: bool) -> None:
        super().__init__()
        parts = [Sublayer(config, "SelfAttention", Attention(config, positions))]
        if decoder:
            parts.append(Sublayer(config, "EncDecAttention", Attention(config)))
        self.layer = nn.ModuleList([*parts, Sublayer(config, "DenseReluDense", FeedForward(config))])
        self.stages = 2 * len(parts) + 1

    def mix(self, index: int, x: Tensor, bias: Tensor, memory: Tensor | None = None, cache: KeysValues | None = None) -> Tensor:
        """What the output projection of attention `index` reads, (n, tokens, heads * d_kv)."""
        return self.layer[index].body.mix(self.layer[index].layer_norm(x), bias, memory, cache)

    def attend(self, index: int, x: Tensor, mixed: Tensor) -> Tensor:
        """The rest of residual attention `index`, (n, tokens, d_model)."""
        return x + self.layer[index].body.o(mixed)

    def feed_forward(self, x: Tensor) -> Tensor:
        """Residual feed-forward layer, (n, tokens, d_model) -> the same."""
        return x + self.layer[-1].body(self.layer[-1].layer_norm(x))


class T5Model(Blockwise, nn.Module):
    """T5 as a BlockModel; its output is the logits (n, answer tokens, vocabulary).

    A batch is {"input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask"}, each (n, tokens), ids and masks
    int64; masks are 1 for tokens and 0 for padding.
    """

    def __init__(self, config: T5Config, own_head: bool) -> None:
        super().__init__()
        self.config = config
        # nn.Embedding's own initialisation on the meta device would import half of torch's compiler (1 s).
        self.shared = nn.Embedding.from_pretrained(torch.empty(config.vocab_size, config.d_model))
        self.encoder, self.decoder = nn.Module(), nn.Module()
        for stack, layers in ((self.encoder, config.num_layers), (self.decoder, config.num_decoder_layers)):
            blocks = (T5Block(config, stack is self.decoder, positions=i == 0) for i in range(layers))
            stack.block, stack.final_layer_norm = nn.ModuleList(blocks), RMSNorm(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False) if own_head else None
        self.blocks = config.blocks()

    def embed(self, batch: Batch) -> State:
        """Token ids and masks -> the state before the first block."""
        device = self.shared.weight.device
        state = {}
        for stack, prefix in (("encoder", ""), ("decoder", "decoder_")):
            mask = batch[f"{prefix}attention_mask"].to(device).bool()
            state[stack] = self.shared(batch[f"{prefix}input_ids"].to(device)) * mask[..., None]
            state[f"{stack}_mask"] = mask
        return state

    def run_stage(self, block: Block, stage: int, state: State) -> State:
        """The last encoder block ends with the encoder's final norm."""
        return self._run_stage(block.name.split(".", 1)[0], self.get_submodule(block.name), stage, state)

    def finish(self, state: State) -> Tensor:
        """State after the last block -> logits (n, answer tokens, vocabulary)."""
        return self._logits(state["decoder"])

    def hidden(self, block: Block, state: State) -> tuple[Tensor, Tensor]:
        """The states of the block's own stack."""
        stack = block.name.split(".", 1)[0]
        return state[stack], state[f"{stack}_mask"]

    def features(self, state: State) -> tuple[Tensor, Tensor]:
        """The decoder's normed states, which the vocabulary projection reads."""
        return self.decoder.final_layer_norm(state["decoder"]), state["decoder_mask"]

    def with_own_answers(self, batch: Batch, where: str) -> Batch:
        """The decoder reads its own greedy answer up to the token before the last; no target text is used."""
        read = self.generate(batch, MAX_ANSWER_TOKENS, where)[:, :-1].to(batch["input_ids"].device)
        # What stands before the end token is real; an answer that was cut has none, and is real as a whole.
        mask = (read == self.config.end).cumsum(1) == 0
        return {**batch, "decoder_input_ids": read * mask, "decoder_attention_mask": mask.long()}

    def token_weights(self, block: Block, layer: str, state: State, class_only: bool) -> Tensor | None:
        """0 for padding. Cross-attention's k and v read the encoder's tokens; there is no class token."""
        reads_encoder = block.name.startswith("encoder.") or layer.endswith(("EncDecAttention.k", "EncDecAttention.v"))
        return state["encoder_mask" if reads_encoder else "decoder_mask"].float().flatten()

    @torch.no_grad()
    def generate(self, batch: Batch, max_length: int, where: str = "model") -> Tensor:
        """Greedy answers to {"input_ids", "attention_mask"}.

        Args:
            batch: as for `embed`, without the decoder's part.
            max_length: tokens of an answer, the start token included.
            where: what messages call the model.

        Returns:
            Token ids (n, at most max_length): the start token, the answer, the end token and padding.

        Raises:
            NumericalError: NaN or Inf among the logits.
        """
        ids = batch["input_ids"].new_full((len(batch["input_ids"]), 1), DECODER_START).to(self.shared.weight.device)
        state = self.embed({**batch, "decoder_input_ids": ids, "decoder_attention_mask": torch.ones_like(ids)})
        for module in self.encoder.block:
            for stage in range(module.stages):
                state = self._run_stage("encoder", module, stage, state)
        caches = [module.layer[1].body.keys_values(state["encoder"]) for module in self.decoder.block]
        open_ended = torch.ones_like(ids[:, 0], dtype=torch.bool)
        while ids.shape[1] < max_length and bool(open_ended.any()):
            step = state | {"decoder": self.shared(ids), "decoder_mask": torch.ones_like(ids, dtype=torch.bool)}
            for module, cache in zip(self.decoder.block, caches, strict=True):
                for stage in range(module.stages):
                    step = self._run_stage("decoder", module, stage, step, cache)
            logits = self._logits(step["decoder"][:, -1])
            if not bool(logits.isfinite().all()):
                raise NumericalError("the model's outputs are NaN or Inf.", where=where, remedy="Its weights are not usable.")
            chosen = logits.argmax(-1).where(open_ended, DECODER_START)
            ids, open_ended = torch.cat([ids, chosen[:, None]], 1), open_ended & (chosen != self.config.end)
        return ids

    def _run_stage(self, stack: str, module: T5Block, stage: int, state: State, cache: KeysValues | None = None) -> State:
        x, mask, index = state[stack], state[f"{stack}_mask"], stage // 2
        if stage == module.stages - 1:
            x = module.feed_forward(x)
            if module is self.encoder.block[-1]:
                x = self.encoder.final_layer_norm(x)
            return state | {stack: x * mask[..., None]}
        if stage % 2:
            left = {name: tensor for name, tensor in state.items() if name != "mixed"}
            return left | {stack: module.attend(index, x, state["mixed"])}
        if index == 1:
            bias = _closed(state["encoder_mask"][:, None, None], x)
            return state | {"mixed": module.mix(1, x, bias, state["encoder"], cache)}
        causal, bias = stack == "decoder", state.get(f"{stack}_bias")
        if bias is None:
            bias = module.layer[0].body.position_bias(x.shape[1], causal)
        allowed = mask[:, None, None]
        if causal:
            allowed = allowed & torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        return state | {"mixed": module.mix(0, x, bias + _closed(allowed, x)), f"{stack}_bias": bias}

    def _logits(self, hidden: Tensor) -> Tensor:
        hidden = self.decoder.final_layer_norm(hidden)
        if self.config.scaled:
            hidden = hidden * self.config.d_model**-0.5
        return F.linear(hidden, self.shared.weight if self.lm_head is None else self.lm_head.weight)


def position_buckets(distance: Tensor, causal: bool, buckets: int, max_distance: int) -> Tensor:
    """T5's bucket of each distance (key minus query position): exact while small, logarithmic up to `max_distance`, one beyond.

    A causal stack has all buckets for keys behind the query; otherwise half of them are for keys ahead.
    """
    first = torch.zeros_like(distance)
    if causal:
        distance = (-distance).clamp(min=0)
    else:
        buckets //= 2
        first, distance = (distance > 0).long() * buckets, distance.abs()
    exact = buckets // 2
    logarithmic = torch.log(distance.float() / exact) / math.log(max_distance / exact) * (buckets - exact)
    far = (exact + logarithmic.clamp(min=0).long()).clamp(max=buckets - 1)
    return first + torch.where(distance < exact, distance, far)


def _closed(allowed: Tensor, like: Tensor) -> Tensor:
    """0 where attention is allowed, the lowest number where it is not."""
    return torch.zeros_like(allowed, dtype=like.dtype).masked_fill(~allowed, torch.finfo(like.dtype).min)


def build_t5(config: T5Config, checkpoint: Checkpoint) -> T5Model:
    """A float32 T5Model in eval mode with every tensor of `checkpoint` loaded, checked for shape and finiteness."""
    with torch.device("meta"):
        model = T5Model(config, "lm_head.weight" in checkpoint)
    shapes = config.shapes("lm_head.weight" in checkpoint)
    model.load_state_dict(checkpoint.loaded(shapes), assign=True)
    return model.eval().requires_grad_(False)
