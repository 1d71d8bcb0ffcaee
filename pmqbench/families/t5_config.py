"""Shape of a T5, and what follows from it without torch: tensor names and shapes, blocks and their groups.

Config validation reads it while Snakemake parses; `t5_model.py` builds the module.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pmqbench.errors import DataError
from pmqbench.families.base import DECODER_START, Block, Group
from pmqbench.families.files import is_positive, is_size
from pmqbench.families.sizes import ANSWER_TOKENS, TEXT_TOKENS, ModelSize

SIZES = ("vocab_size", "d_model", "d_kv", "d_ff", "num_heads", "num_layers")
ACTIVATIONS = ("relu", "gelu", "gelu_new", "silu")


@dataclass(frozen=True)
class T5Config:
    """Shape of a T5 encoder-decoder, under the names of its config file where these are plain.

    Attributes:
        gated: whether the feed-forward layer is wo(act(wi_0 x) * wi_1 x) instead of wo(act(wi x)).
        scaled: whether the decoder's output is scaled by d_model^-1/2 before the vocabulary projection.
        end: token id that ends an answer.
    """

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_heads: int
    num_layers: int
    num_decoder_layers: int
    buckets: int
    max_distance: int
    eps: float
    activation: str
    gated: bool
    scaled: bool
    end: int

    def shapes(self, own_head: bool) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor by canonical name; `own_head`: the vocabulary projection is not the shared embedding."""
        shapes: dict[str, tuple[int, ...]] = {"shared.weight": (self.vocab_size, self.d_model)}
        for stack, layers in (("encoder", self.num_layers), ("decoder", self.num_decoder_layers)):
            for i in range(layers):
                shapes |= {f"{layer}.weight": shape for layer, shape in self._linear(stack, i)}
                if i == 0:
                    bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
                    shapes[bias] = (self.buckets, self.num_heads)
                norms = 2 if stack == "encoder" else 3
                shapes |= {f"{stack}.block.{i}.layer.{j}.layer_norm.weight": (self.d_model,) for j in range(norms)}
            shapes[f"{stack}.final_layer_norm.weight"] = (self.d_model,)
        return shapes | ({"lm_head.weight": shapes["shared.weight"]} if own_head else {})

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """(out, in) of every quantizable linear layer, in forward order."""
        stacks = (("encoder", self.num_layers), ("decoder", self.num_decoder_layers))
        return {name: shape for stack, layers in stacks for i in range(layers) for name, shape in self._linear(stack, i)}

    def size(self, own_head: bool) -> ModelSize:
        """With typical prompts and answers; the decoder's cross-attention has keys and values of the prompts' tokens."""

        def tokens(name: str) -> int:
            of_prompt = name.startswith("encoder.") or name.endswith((".EncDecAttention.k", ".EncDecAttention.v"))
            return TEXT_TOKENS if of_prompt else ANSWER_TOKENS

        return ModelSize.of(
            self.linear_shapes(),
            tokens,
            [math.prod(shape) for shape in self.shapes(own_head).values()],
            beside=0,
            blocks=self.num_layers + self.num_decoder_layers,
            width=self.d_model,
            tokens=TEXT_TOKENS + ANSWER_TOKENS,
            input_bytes=16 * (TEXT_TOKENS + ANSWER_TOKENS),
        )

    def blocks(self) -> tuple[Block, ...]:
        """Encoder blocks, then decoder blocks."""
        encoder = [self._block("encoder", i) for i in range(self.num_layers)]
        return (*encoder, *(self._block("decoder", i) for i in range(self.num_decoder_layers)))

    def _linear(self, stack: str, i: int) -> Iterator[tuple[str, tuple[int, int]]]:
        name, inner = f"{stack}.block.{i}.layer", self.num_heads * self.d_kv
        for attention in _attentions(name, stack):
            yield from ((f"{attention}.{part}", (inner, self.d_model)) for part in "qkv")
            yield f"{attention}.o", (self.d_model, inner)
        dense = _dense(name, stack)
        yield from ((f"{dense}.{part}", (self.d_ff, self.d_model)) for part in self._wide())
        yield f"{dense}.wo", (self.d_model, self.d_ff)

    def _wide(self) -> tuple[str, ...]:
        return ("wi_0", "wi_1") if self.gated else ("wi",)

    def _block(self, stack: str, i: int) -> Block:
        """Foldings (`Group.norm`, `Group.producer`) are the exact ones: wi -> wo through a ReLU, wi_1 -> wo through a gate.

        All cross-attentions' k and v read the encoder's final norm, so a scale folded there would have to serve every decoder
        block at once: they have no norm here, and AWQ leaves their inputs unscaled.
        """
        block = f"{stack}.block.{i}"
        attention, *cross = _attentions(f"{block}.layer", stack)
        dense = _dense(f"{block}.layer", stack)
        wide = tuple(f"{dense}.{part}" for part in self._wide())
        groups = [
            Group(tuple(f"{attention}.{part}" for part in "qkv"), norm=f"{block}.layer.0.layer_norm"),
            Group((f"{attention}.o",), producer=f"{attention}.v", stage=1),
        ]
        for name in cross:
            groups += [
                Group((f"{name}.q",), norm=f"{block}.layer.1.layer_norm", stage=2),
                Group((f"{name}.k", f"{name}.v"), stage=2),
                Group((f"{name}.o",), producer=f"{name}.v", stage=3),
            ]
        ends = 2 + 2 * len(cross)
        exact = self.gated or self.activation == "relu"
        groups += [
            Group(wide, norm=f"{dense.rsplit('.', 1)[0]}.layer_norm", stage=ends),
            Group((f"{dense}.wo",), producer=wide[-1] if exact else None, stage=ends, mlp_output=True),
        ]
        last = stack == "encoder" and i == self.num_layers - 1
        scores = frozenset(f"{name}.{part}" for name in (attention, *cross) for part in "qk")
        also = ("encoder.final_layer_norm",) if last else ()
        return Block(block, tuple(groups), score_layers=scores, also=also, wide=frozenset(range(0, ends, 2)))


def t5_config(config: Mapping[str, Any], where: str = "config.json") -> T5Config:
    """T5Config from a transformers config file; refuses what is not a T5 of this kind.

    Args:
        config: the file's content.
        where: what messages call the file.

    Raises:
        DataError: another model type, a missing size, an unknown activation, an eps that is no number, padding and start tokens
            other than 0, several end tokens, or weights that are quantized already.
    """
    own = {
        "num_decoder_layers": config.get("num_decoder_layers") or config.get("num_layers"),
        "relative_attention_num_buckets": config.get("relative_attention_num_buckets", 32),
        "relative_attention_max_distance": config.get("relative_attention_max_distance", 128),
    }
    sizes = {key: config.get(key) for key in SIZES} | own
    missing = [key for key, value in sizes.items() if not is_size(key, value)]
    feed_forward, eps = str(config.get("feed_forward_proj", "relu")), config.get("layer_norm_epsilon", 1e-6)
    activation = {"gated-gelu": "gelu_new"}.get(feed_forward, feed_forward.rsplit("-", 1)[-1])
    tokens = [config.get(key, DECODER_START) for key in ("pad_token_id", "decoder_start_token_id")]
    end = config.get("eos_token_id", 1)
    reasons = [
        *([f"model_type is {config.get('model_type')}"] if config.get("model_type") != "t5" else []),
        *([f"{', '.join(missing)} missing, or no size of a model"] if missing else []),
        *([f"activation {activation} unknown"] if activation not in ACTIVATIONS else []),
        *([f"layer_norm_epsilon is {eps!r}"] if not is_positive(eps) else []),
        *(["padding and decoder start are not token 0"] if tokens != [DECODER_START] * 2 else []),
        *([f"eos_token_id is {end!r}"] if not isinstance(end, int) else []),
        *(["the weights are quantized already"] if "quantization_config" in config else []),
    ]
    if reasons:
        what = f"this is not the config of a T5 encoder-decoder ({'; '.join(reasons)})."
        raise DataError(what, where=where, remedy="Use a T5 or FLAN-T5 as transformers saves it.")
    return T5Config(
        **{key: config[key] for key in SIZES},
        num_decoder_layers=own["num_decoder_layers"],
        buckets=own["relative_attention_num_buckets"],
        max_distance=own["relative_attention_max_distance"],
        eps=eps,
        activation=activation,
        gated=feed_forward.startswith("gated-"),
        # transformers 4 has no such key and scales where embeddings are tied (T5 1.0); transformers 5 writes it.
        scaled=config.get("scale_decoder_outputs", config.get("tie_word_embeddings") is not False),
        end=end,
    )


def _attentions(layer: str, stack: str) -> list[str]:
    return [f"{layer}.0.SelfAttention"] + ([f"{layer}.1.EncDecAttention"] if stack == "decoder" else [])


def _dense(layer: str, stack: str) -> str:
    return f"{layer}.{1 if stack == 'encoder' else 2}.DenseReluDense"
