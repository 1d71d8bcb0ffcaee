"""The t5 family: T5 and FLAN-T5 encoder-decoders in transformers' layout (`config.json`, `model.safetensors`).

The whole model is merged; the linear layers of its blocks are quantized, cross-attention's k and v on the quantized encoder's
output. Canonical names are those of transformers' state dict, with the shared embedding once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmqbench.checkpoints import Checkpoint, Slot, unlike
from pmqbench.families.base import FAMILIES
from pmqbench.families.files import TOKENIZER, Deployed, ModelFiles, read_object
from pmqbench.families.t5_config import T5Config, t5_config

if TYPE_CHECKING:
    from pmqbench.families.sizes import ModelSize
    from pmqbench.families.t5_model import T5Model

WEIGHTS, CONFIG = "model.safetensors", "config.json"
SHARED, HEAD = "shared.weight", "lm_head.weight"
COPIES = (SHARED, "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", HEAD)


@FAMILIES.register("t5")
@dataclass(frozen=True)
class T5(ModelFiles):
    """Family of T5ForConditionalGeneration, with plain or gated feed-forward layers, tied or own vocabulary projection."""

    weights_file = WEIGHTS
    config_file = CONFIG
    model_types = ("t5",)
    base_files = (TOKENIZER,)
    required_base_files = (TOKENIZER,)
    shared_files = (TOKENIZER,)
    exported_files = (TOKENIZER,)
    # Copies of the embedding (checked below), and a table that the first T5s stored and no model reads.
    buffers = (*COPIES, "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight")
    protocol = "text_to_text"

    def traits(self, folder: Path) -> dict[str, Any]:
        """The config, and whether the vocabulary projection is the shared embedding."""
        tied = HEAD not in self.checkpoint(folder).names()
        return asdict(read_config(folder)) | {"tied_head": tied}

    def check_like(self, expert: Path, base: Path, label: str) -> None:
        """As every family; also that no copy of the embedding differs from it."""
        super().check_like(expert, base, label)
        for folder, name in ((base, "base"), (expert, label)):
            check_copies(self.checkpoint(folder, name))

    def checkpoint(self, folder: Path, label: str = "") -> Checkpoint:
        """The whole model, with the embedding once."""
        path = Path(folder) / WEIGHTS
        stored = Checkpoint(path, None, label)
        names = read_config(folder).shapes(has_own_head(stored, read_object(Path(folder) / CONFIG)))
        embedding = next((name for name in COPIES if name in stored), SHARED)
        return Checkpoint(path, {name: Slot(embedding if name == SHARED else name) for name in names}, label)

    def build(self, folder: Path, label: str = "") -> T5Model:
        """Encoder and decoder."""
        from pmqbench.families.t5_model import build_t5

        return build_t5(read_config(folder), self.checkpoint(folder, label))

    def deployed(self, folder: Path, base: Path) -> Deployed:
        """As T5ForConditionalGeneration; what transformers left out of a config as its default stays left out."""
        config = read_object(Path(folder) / CONFIG) | {"architectures": ["T5ForConditionalGeneration"]}
        tokenizer = (Path(base) / TOKENIZER).read_text(encoding="utf-8")
        # It reads its weights' type before it runs, which packed layers do not have.
        return Deployed("T5ForConditionalGeneration", config, {TOKENIZER: tokenizer}, ("lm_head",), runs_packed=False)

    def linear_shapes(self, config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        """Of the encoder's blocks, then of the decoder's."""
        return t5_config(config).linear_shapes()

    def size(self, config: Mapping[str, Any]) -> ModelSize:
        """With typical prompts and answers, and with a vocabulary projection of its own unless the config ties it."""
        return t5_config(config).size(own_head=config.get("tie_word_embeddings") is False)


def read_config(folder: Path) -> T5Config:
    """The model's config file."""
    path = Path(folder) / CONFIG
    return t5_config(read_object(path), str(path.resolve()))


def check_copies(checkpoint: Checkpoint) -> None:
    """Raises DataError if a stored copy of the embedding is none: T5 has one embedding, which is what is merged."""
    for name in set(checkpoint.left_over()) & set(COPIES):
        if not bool((checkpoint.left_over_tensor(name) == checkpoint.tensor(SHARED)).all()):
            raise unlike(checkpoint, f'"{name}" is no copy of "{SHARED}".')


def has_own_head(stored: Checkpoint, config: Mapping[str, Any]) -> bool:
    """Whether the vocabulary projection is a matrix of its own (FLAN-T5) and no copy of the shared embedding.

    As transformers 5 has it: a stored projection with other values counts even where the config says it is tied.
    """
    if HEAD not in stored or SHARED not in stored:
        return False
    return config.get("tie_word_embeddings") is False or not bool((stored.tensor(HEAD) == stored.tensor(SHARED)).all())
