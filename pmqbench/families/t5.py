"""The t5 family: T5 and FLAN-T5 encoder-decoders in transformers' layout (`config.json`, `model.safetensors`).

The whole model is merged; the linear layers of its blocks are quantized, cross-attention's k and v on the quantized encoder's
output. Canonical names are those of transformers' state dict, with the shared embedding once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmqbench.checkpoints import Checkpoint, Slot
from pmqbench.families.base import FAMILIES
from pmqbench.families.files import Deployed, ModelFiles
from pmqbench.families.t5_config import t5_config
from pmqbench.files import read_json

if TYPE_CHECKING:
    from pmqbench.families.t5_model import T5Model

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
SHARED, HEAD = "shared.weight", "lm_head.weight"
COPIES = (SHARED, "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", HEAD)


@FAMILIES.register("t5")
@dataclass(frozen=True)
class T5(ModelFiles):
    """Family of T5ForConditionalGeneration, with plain or gated feed-forward layers, tied or own vocabulary projection."""

    weights_file = WEIGHTS
    config_file = CONFIG
    base_files = (TOKENIZER,)
    required_base_files = (TOKENIZER,)
    exported_files = (TOKENIZER,)
    protocol = "text_to_text"

    def checkpoint(self, folder: Path, label: str = "") -> Checkpoint:
        """See Family; the whole model."""
        path, config = Path(folder) / WEIGHTS, read_json(Path(folder) / CONFIG)
        stored = Checkpoint(path, None, label)
        names = t5_config(config).shapes(has_own_head(stored, config))
        embedding = next((name for name in COPIES if name in stored), SHARED)
        return Checkpoint(path, {name: Slot(embedding if name == SHARED else name) for name in names}, label)

    def build(self, folder: Path, label: str = "") -> T5Model:
        """See Family."""
        from pmqbench.families.t5_model import build_t5

        return build_t5(t5_config(read_json(Path(folder) / CONFIG)), self.checkpoint(folder, label))

    def deployed(self, folder: Path, base: Path) -> Deployed:
        """See Family; what transformers left out of a config as its default stays left out."""
        config = read_json(Path(folder) / CONFIG) | {"architectures": ["T5ForConditionalGeneration"]}
        tokenizer = (Path(base) / TOKENIZER).read_text(encoding="utf-8")
        return Deployed("T5ForConditionalGeneration", config, {TOKENIZER: tokenizer}, ("lm_head",))

    def linear_shapes(self, config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
        """See Family."""
        return t5_config(config).linear_shapes()


def has_own_head(stored: Checkpoint, config: Mapping[str, Any]) -> bool:
    """Whether the vocabulary projection is a matrix of its own (FLAN-T5) and no copy of the shared embedding.

    As transformers 5 has it: a stored projection with other values counts even where the config says it is tied.
    """
    if HEAD not in stored or SHARED not in stored:
        return False
    return config.get("tie_word_embeddings") is False or not bool((stored.tensor(HEAD) == stored.tensor(SHARED)).all())
