"""Which stored files make a model of a family, and how they come into its folder under results/. Families inherit it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pmqbench.errors import DataError
from pmqbench.files import atomic_path, read_json


@dataclass(frozen=True)
class Deployed:
    """A model as stock transformers loads it; its tensors have the canonical names.

    Attributes:
        loader: class whose `from_pretrained` loads it.
        config: its config.json.
        files: what else belongs into its folder, processor or tokenizer, as text by name.
        unquantized: linear modules that no method quantizes.
    """

    loader: str
    config: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    unquantized: tuple[str, ...] = ()


class ModelFiles:
    """The usual layout: one safetensors file, or shards with an index, and a config.

    Attributes:
        weights_file, config_file: names in a model's folder.
        side_files: names of what else a model needs to run, in every model's folder.
        base_files: names that only a base needs (tokenizer, preprocessor), taken where they exist.
        exported_files: names of `Deployed.files`.
    """

    weights_file: ClassVar[str]
    config_file: ClassVar[str]
    side_files: ClassVar[tuple[str, ...]] = ()
    base_files: ClassVar[tuple[str, ...]] = ()
    exported_files: ClassVar[tuple[str, ...]] = ()

    @property
    def model_files(self) -> tuple[str, ...]:
        """Names of all files that make a model."""
        return (self.weights_file, self.config_file, *self.side_files)

    def needed(self, names: Collection[str], base: bool, where: str) -> list[str]:
        """Those of a folder's or repository's files that make a model.

        Raises:
            DataError: no config, or no weights as safetensors.
        """
        stem = self.weights_file.removesuffix(".safetensors")
        extra = [name for name in self.base_files if base and name in names]
        if self.config_file in names and self.weights_file in names:
            return [self.weights_file, self.config_file, *extra]
        if self.config_file in names and f"{self.weights_file}.index.json" in names:
            shards = [name for name in sorted(names) if name.startswith(f"{stem}-") and name.endswith(".safetensors")]
            return [f"{self.weights_file}.index.json", *shards, self.config_file, *extra]
        lacking = self.weights_file if self.config_file in names else self.config_file
        pickled = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth")))
        reason = f"; {pickled[0]} is a pickle, which may run code and is not read" if pickled else ""
        remedy = "Give a folder or revision that holds weights (safetensors) and config."
        raise DataError(f"there is no {lacking}{reason}.", where=where, remedy=remedy)

    def bring(self, files: Mapping[str, Path], folder: Path) -> None:
        """Puts needed files, by name, into a model's folder: linked, shards joined."""
        shards = [path for name, path in files.items() if name.endswith(".safetensors") and name != self.weights_file]
        if shards:
            join_shards(files[f"{self.weights_file}.index.json"], shards, folder / self.weights_file)
        for name, path in files.items():
            if path not in shards and not name.endswith(".index.json"):
                link(path, folder / name)


def link(source: Path, target: Path) -> None:
    """A symbolic link that appears at once, in place of what was there."""
    with atomic_path(target) as temporary:
        os.symlink(source.resolve(), temporary)


def join_shards(index: Path, shards: Collection[Path], target: Path) -> None:
    """Writes the tensors of a sharded checkpoint into one file; DataError names a tensor of the index that no shard holds."""
    from safetensors.torch import load_file

    from pmqbench.checkpoints import save_checkpoint

    tensors = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    missing = sorted(set(read_json(index)["weight_map"]) - tensors.keys())
    if missing:
        remedy = "A shard is missing or of another checkpoint."
        raise DataError(f'tensor "{missing[0]}" is in no shard.', where=str(index), remedy=remedy)
    save_checkpoint(target, tensors)
