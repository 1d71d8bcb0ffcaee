"""The bert family: BERT and MiniLM sentence encoders in transformers' layout (`config.json`, `model.safetensors`).

A text's features are the mean of its tokens' last hidden states (padding left out), as in sentence-transformers' mean pooling.
The pooler, a layer on the first token alone, does not reach them: it is neither merged nor stored. Canonical names are those of
transformers' BertModel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmqbench.checkpoints import Checkpoint, Slot
from pmqbench.errors import DataError
from pmqbench.families.base import FAMILIES, Block, Group
from pmqbench.families.files import TOKENIZER, Deployed, ModelFiles, is_positive, is_size, read_object
from pmqbench.families.layers import Embedding, Find, Layer, Linear, Norm, linear_shapes, tensor_shapes
from pmqbench.families.sizes import TEXT_TOKENS, ModelSize

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pmqbench.families.layer_model import LayerModel

    State = dict[str, Tensor]

WEIGHTS, CONFIG = "model.safetensors", "config.json"
SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)
PREFIX = "bert."  # of the encoder's tensors in models with a task head
OLD_PARTS = {"weight": "gamma", "bias": "beta"}  # of layer norms in checkpoints converted from TensorFlow
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}  # by hidden_act
LOGIT_SCALE = 20.0
"""Factor of cosines, sentence-transformers' default in contrastive losses; only the reported cross-entropy depends on it."""
BATCH = 256
"""Sentences per forward pass when heads are made."""


@dataclass(frozen=True)
class Bert:
    """Architecture of a BERT encoder (Devlin et al., 2019): post-norm blocks, learned positions, mean pooling.

    A batch is {"input_ids", "attention_mask"}, each int64 (n, tokens). The state holds `hidden` (n, tokens, width), the `mask`
    (n, tokens), bool, and behind attention's first stage what it `mixed`. Hidden states of padding are kept at zero: nothing
    attends to padding, and so it enters no comparison of block outputs either (AWQ's search).
    """

    vocabulary: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    positions: int
    types: int
    eps: float
    activation: str

    def layers(self) -> dict[str, Layer]:
        """Every layer but the pooler."""
        norm, square = Norm(self.width, self.eps), Linear(self.width, self.width)
        table: dict[str, Layer] = {
            "embeddings.word_embeddings": Embedding(self.vocabulary, self.width),
            "embeddings.position_embeddings": Embedding(self.positions, self.width),
            "embeddings.token_type_embeddings": Embedding(self.types, self.width),
            "embeddings.LayerNorm": norm,
        }
        for name in self._names():
            table |= {f"{name}.attention.self.{part}": square for part in ("query", "key", "value")}
            table |= {f"{name}.attention.output.dense": square, f"{name}.attention.output.LayerNorm": norm}
            table[f"{name}.intermediate.dense"] = Linear(self.mlp_width, self.width)
            table |= {f"{name}.output.dense": Linear(self.width, self.mlp_width), f"{name}.output.LayerNorm": norm}
        return table

    def blocks(self) -> tuple[Block, ...]:
        """The encoder's layers in forward order.

        Groups have no norm: a post-norm's output is the residual as well, so that no scale folds into it exactly. A GELU stands
        between the feed-forward layers; v -> attention's output is exact.
        """
        return tuple(self._block(name) for name in self._names())

    def embed(self, layer: Find, batch: Mapping[str, Tensor]) -> State:
        """Words, positions and the first token type, normalised; DataError for texts longer than the model has positions."""
        ids, mask = batch["input_ids"], batch["attention_mask"].bool()
        if ids.shape[1] > self.positions:
            what = f"a text has {ids.shape[1]} tokens, the model takes {self.positions}."
            raise DataError(what, where="sentence encoder", remedy="Cut texts at the model's positions.")
        positions = layer("embeddings.position_embeddings").weight[: ids.shape[1]]
        hidden = layer("embeddings.word_embeddings")(ids) + positions + layer("embeddings.token_type_embeddings").weight[0]
        return {"hidden": layer("embeddings.LayerNorm")(hidden) * mask[..., None], "mask": mask}

    def run_stage(self, layer: Find, block: Block, stage: int, state: State) -> State:
        """Attention up to its output projection; the rest of attention; the feed-forward layer."""
        import torch.nn.functional as F

        hidden, mask = state["hidden"], state["mask"]
        if stage == 0:
            q, k, v = (
                layer(f"{block.name}.attention.self.{part}")(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for part in ("query", "key", "value")
            )
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
            return state | {"mixed": mixed.transpose(1, 2).flatten(2)}
        if stage == 1:
            name, update = f"{block.name}.attention.output", state["mixed"]
        else:
            wide = layer(f"{block.name}.intermediate.dense")(hidden)
            name, update = (
                f"{block.name}.output",
                F.gelu(wide, approximate="tanh" if self.activation == "gelu_tanh" else "none"),
            )
        normed = layer(f"{name}.LayerNorm")(hidden + layer(f"{name}.dense")(update))
        return {"hidden": normed * mask[..., None], "mask": mask}

    def finish(self, layer: Find, state: State) -> Tensor:
        """Mean over a text's tokens, (n, width)."""
        return state["hidden"].sum(1) / state["mask"].sum(1, keepdim=True)

    def hidden(self, block: Block, state: State) -> tuple[Tensor, Tensor]:
        """The tokens' states, and the texts' mask."""
        return state["hidden"], state["mask"]

    def token_weights(self, block: Block, layer: str, state: State, class_only: bool) -> Tensor:
        """0 for padding, 1 for tokens: all of them reach the mean, so there is no class token."""
        return state["mask"].float().flatten()

    def _names(self) -> list[str]:
        return [f"encoder.layer.{i}" for i in range(self.depth)]

    def _block(self, name: str) -> Block:
        q, k, v = (f"{name}.attention.self.{part}" for part in ("query", "key", "value"))
        groups = (
            Group((q, k, v)),
            Group((f"{name}.attention.output.dense",), producer=v, stage=1),
            Group((f"{name}.intermediate.dense",), stage=2),
            Group((f"{name}.output.dense",), stage=2, mlp_output=True),
        )
        return Block(name, groups, score_layers=frozenset({q, k}), wide=frozenset({0}))


@FAMILIES.register("bert")
@dataclass(frozen=True)
class BertFamily(ModelFiles):
    """Family of BertModel, and of the encoder in transformers' models with a task head."""

    weights_file = WEIGHTS
    config_file = CONFIG
    model_types = ("bert",)
    base_files = (TOKENIZER,)
    required_base_files = (TOKENIZER,)
    shared_files = (TOKENIZER,)
    exported_files = (TOKENIZER,)
    unused_tensors = ("*pooler.*", "cls.*", "classifier.*", "qa_outputs.*")
    buffers = ("*embeddings.position_ids", "*embeddings.token_type_ids")
    protocol = "zero_shot_text"

    def traits(self, folder: Path) -> dict[str, Any]:
        """The encoder's shape and activation."""
        return asdict(read_config(folder))

    def checkpoint(self, folder: Path, label: str = "") -> Checkpoint:
        """The encoder's tensors, with or without the prefix, layer norms under their present or their old names."""
        path = Path(folder) / WEIGHTS
        stored, slots = set(Checkpoint(path, label=label).names()), {}
        for name in tensor_shapes(read_config(folder).layers()):
            module, part = name.rsplit(".", 1)
            places = [f"{prefix}{module}.{word}" for prefix in ("", PREFIX) for word in (part, OLD_PARTS[part])]
            slots[name] = Slot(next((place for place in places if place in stored), name))
        return Checkpoint(path, slots, label)

    def build(self, folder: Path, label: str = "") -> LayerModel:
        """The encoder with mean pooling."""
        from pmqbench.families.layer_model import build

        return build(read_config(folder), self.checkpoint(folder, label))

    def linear_shapes(self, config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        """(out, in) of every linear layer of the encoder's blocks."""
        bert = bert_config(config)
        return linear_shapes(bert.layers(), bert.blocks())

    def size(self, config: Mapping[str, Any]) -> ModelSize:
        """With typical texts."""
        bert = bert_config(config)
        return ModelSize.of(
            self.linear_shapes(config),
            lambda name: TEXT_TOKENS,
            [math.prod(shape) for shape in tensor_shapes(bert.layers()).values()],
            beside=0,
            blocks=bert.depth,
            width=bert.width,
            tokens=TEXT_TOKENS,
            input_bytes=16 * TEXT_TOKENS,
        )

    def deployed(self, folder: Path, base: Path) -> Deployed:
        """A BertModel without a pooler; one that is loaded with it gets a new one, which mean pooling does not use."""
        config = read_object(Path(folder) / CONFIG) | {"architectures": ["BertModel"]}
        tokenizer = (Path(base) / TOKENIZER).read_text(encoding="utf-8")
        return Deployed("BertModel", config, {TOKENIZER: tokenizer}, ("pooler.dense",), {"add_pooling_layer": False})

    def head(self, base: Path, classnames: list[str], templates: list[str]) -> dict[str, torch.Tensor]:
        """Normalised mean over templates of normalised sentence embeddings; no projection, as texts are embedded alike."""
        import torch
        import torch.nn.functional as F

        from pmqbench.tasks.text import batched, encode, encoder_tokenizer

        model, tokenizer = self.build(base, "base"), encoder_tokenizer(Path(base))
        sentences = [template.format(name) for name in classnames for template in templates]
        features = torch.cat([model(batch) for batch in batched(encode(tokenizer, sentences), BATCH)])
        embeddings = F.normalize(features, dim=-1).view(len(classnames), len(templates), -1)
        return {"classes": F.normalize(embeddings.mean(dim=1), dim=-1), "logit_scale": torch.tensor(LOGIT_SCALE)}


def read_config(folder: Path) -> Bert:
    """The architecture from a folder's config."""
    path = Path(folder) / CONFIG
    return bert_config(read_object(path), str(path.resolve()))


def bert_config(config: Mapping[str, Any], where: str = CONFIG) -> Bert:
    """The architecture from a transformers config file; refuses what is not a BERT encoder of this kind.

    Args:
        config: the file's content.
        where: what messages call the file.

    Raises:
        DataError: another model type, a missing size, heads that do not divide the width, relative positions, a decoder, an
            unknown activation, an eps that is no number, or weights that are quantized already.
    """
    types = config.get("type_vocab_size", 2)
    missing = [key for key in SIZES if not is_size(key, config.get(key))]
    kind, activation = config.get("model_type"), config.get("hidden_act", "gelu")
    positions, eps = config.get("position_embedding_type") or "absolute", config.get("layer_norm_eps", 1e-12)
    heads = not missing and config["hidden_size"] % config["num_attention_heads"]
    reasons = [
        *([f"model_type is {kind}"] if kind != "bert" else []),
        *([f"{', '.join(missing)} missing, or no size of a model"] if missing else []),
        *([f"position_embedding_type {positions}"] if positions != "absolute" else []),
        *([f"type_vocab_size is {types!r}"] if not is_size("type_vocab_size", types) else []),
        *([f"layer_norm_eps is {eps!r}"] if not is_positive(eps) else []),
        *(["hidden_size cannot be split into num_attention_heads"] if heads else []),
        *([f"hidden_act {activation} unknown"] if activation not in list(ACTIVATIONS) else []),
        *(["it is a decoder"] if config.get("is_decoder") or config.get("add_cross_attention") else []),
        *(["the weights are quantized already"] if "quantization_config" in config else []),
    ]
    if reasons:
        what = f"this is not the config of a BERT encoder with absolute positions ({'; '.join(reasons)})."
        raise DataError(what, where=where, remedy="Use a BERT or MiniLM as transformers saves it, or another `family`.")
    return Bert(
        *(config[key] for key in SIZES),
        types=types,
        eps=eps,
        activation=ACTIVATIONS[activation],
    )
