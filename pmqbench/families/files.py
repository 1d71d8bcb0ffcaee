"""Which stored files make a model of a family, and how they come into its folder under results/. Families inherit it.

An expert is admitted to a suite if it is like the base in all that `contract.py` compares.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pmqbench.checkpoints import Checkpoint, check_same_layout, save_checkpoint
from pmqbench.errors import DataError
from pmqbench.families import contract
from pmqbench.files import atomic_path, copy_file, read_json

if TYPE_CHECKING:
    import torch

TOKENIZER = "tokenizer.json"
MOST_LAYERS, MOST_SIZE = 1000, 2**20
"""Of a model whose config is believed: some times what the largest models have."""


@dataclass(frozen=True)
class Deployed:
    """A model as stock transformers loads it; its tensors have the canonical names.

    Attributes:
        loader: class whose `from_pretrained` loads it.
        arguments: keyword arguments of `from_pretrained` beside the folder.
        config: its config.json.
        files: what else belongs into its folder, processor or tokenizer, as text by name.
        unquantized: linear modules that no method quantizes.
        runs_packed: whether transformers' model can hold packed linear layers until its first forward pass.
    """

    loader: str
    config: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    unquantized: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    runs_packed: bool = True


class ModelFiles(ABC):
    """The usual layout: one safetensors file, or shards with an index, and a config.

    Attributes:
        weights_file, config_file: names in a model's folder.
        model_types: what `model_type` of a config file may be; none for a config file that only this family has.
        side_files: names of what else a model needs to run, in every model's folder.
        base_files: names that are taken from where a base is brought from, where they exist (tokenizer, preprocessor).
        required_base_files: those of them without which a base is refused.
        shared_files: names that are taken from where an expert is brought from, where they exist: what they say must be what
            the base's say.
        exported_files: names of `Deployed.files`.
        shared_tensors: names, in the file, of tensors that all models take from the base: an expert's own must be equal.
        unused_tensors: patterns of names, in the file, that an expert may hold and is not asked for.
        buffers: patterns of names, in the file, that hold no weights.
    """

    weights_file: ClassVar[str]
    config_file: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]] = ()
    side_files: ClassVar[tuple[str, ...]] = ()
    base_files: ClassVar[tuple[str, ...]] = ()
    required_base_files: ClassVar[tuple[str, ...]] = ()
    shared_files: ClassVar[tuple[str, ...]] = ()
    exported_files: ClassVar[tuple[str, ...]] = ()
    shared_tensors: ClassVar[tuple[str, ...]] = ()
    unused_tensors: ClassVar[tuple[str, ...]] = ()
    buffers: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def traits(self, folder: Path) -> dict[str, Any]:
        """All that the forward pass of the model in `folder` reads of its config and side files, by readable names.

        Two models with equal traits, tensors and tokenizers compute the same. Usually `dataclasses.asdict` of the parsed
        config.

        Raises:
            DataError: a file is missing, or holds something else than the family reads.
        """

    @abstractmethod
    def checkpoint(self, folder: Path, label: str = "") -> Checkpoint:
        """The model's merged tensors, as `base.Family` has it."""

    @property
    def model_files(self) -> tuple[str, ...]:
        """Names of all files that make a model."""
        return (self.weights_file, self.config_file, *self.side_files)

    def needed(self, names: Collection[str], base: bool, where: str) -> list[str]:
        """Those of a folder's or repository's files that make a model.

        Raises:
            DataError: no config, no weights as safetensors, or no file that a base requires.
        """
        absent = [name for name in self.required_base_files if base and name not in names]
        if absent:
            remedy = "A base needs it beside its weights: `save_pretrained` of its tokenizer writes it."
            raise DataError(f"there is no {absent[0]}.", where=where, remedy=remedy)
        stem = self.weights_file.removesuffix(".safetensors")
        extra = [name for name in (self.base_files if base else self.shared_files) if name in names]
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

    def config_name(self, names: Collection[str]) -> str:
        """Which of the needed files is the model's config."""
        return self.config_file

    def bring(self, files: Mapping[str, Path], folder: Path, base: bool) -> None:
        """Puts needed files, by name, into a model's folder: linked, shards joined. A base has its side files afterwards."""
        shards = [path for name, path in files.items() if name.endswith(".safetensors") and name != self.weights_file]
        if shards:
            join_shards(files[f"{self.weights_file}.index.json"], shards, folder / self.weights_file)
        for name, path in files.items():
            if path not in shards and not name.endswith(".index.json"):
                link(path, folder / name)

    def save(self, folder: Path, tensors: Mapping[str, torch.Tensor], config_from: Path, metadata: Mapping[str, str]) -> None:
        """Writes canonical tensors under their names, as transformers loads them, with the config of `config_from`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_checkpoint(folder / self.weights_file, tensors, {"format": "pt", **metadata})
        copy_file(Path(config_from) / self.config_file, folder / self.config_file)

    def admit(self, expert: Path, base: Path, label: str) -> None:
        """Makes what was brought into the folder `expert` an expert of the `base`'s suite.

        It gets the base's side files where it brought none, and is checked (`check_like`). An expert much further from the base
        than fine-tuning takes a model is a warning.

        Args:
            expert, base: folders under results/.
            label: what messages call the expert ("expert digits").
        """
        for name in self.side_files:
            if not (expert / name).exists():
                copy_file(base / name, expert / name)
        self.check_like(expert, base, label)
        contract.warn_of_task_vector(self.checkpoint(expert, label), self.checkpoint(base, "base"))

    def check_like(self, expert: Path, base: Path, label: str) -> None:
        """Raises DataError if an expert is unlike the base: traits, tokenizer, layout, tensors beside those that are merged."""
        contract.compare_traits(self.traits(expert), self.traits(base), label)
        if (expert / TOKENIZER).exists() and (base / TOKENIZER).exists():
            contract.compare_tokenizers(expert / TOKENIZER, base / TOKENIZER, label)
        tuned, known = self.checkpoint(expert, label), self.checkpoint(base, "base")
        check_same_layout(tuned, known)
        contract.check_left_over(tuned, known, self.shared_tensors, self.unused_tensors, self.buffers)


def is_positive(value: Any) -> bool:
    """Whether a value of a config file is a finite number above zero."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def is_size(key: str, value: Any) -> bool:
    """Whether a value of a config file may be a model's size: a whole number, and none that only exhausts the memory."""
    most = MOST_LAYERS if "layers" in key else MOST_SIZE
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object; DataError names the file itself, behind links."""
    where = str(path.resolve())
    try:
        value = read_json(path)
    except FileNotFoundError as error:
        raise DataError(f"there is no {path.name}.", where=where, remedy="A model needs it beside its weights.") from error
    if not isinstance(value, dict):
        raise DataError("this is no JSON object.", where=where, remedy='It begins with "{" where a model library wrote it.')
    return value


def link(source: Path, target: Path) -> None:
    """A symbolic link that appears at once, in place of what was there."""
    with atomic_path(target) as temporary:
        os.symlink(source.resolve(), temporary)


def join_shards(index: Path, shards: Collection[Path], target: Path) -> None:
    """Writes the tensors of a sharded checkpoint into one file; DataError names a tensor of the index that no shard holds."""
    tensors = {name: tensor for shard in shards for name, tensor in Checkpoint(shard).items()}
    missing = sorted(set(read_object(index).get("weight_map", {})) - tensors.keys())
    if missing:
        remedy = "A shard is missing or of another checkpoint."
        raise DataError(f'tensor "{missing[0]}" is in no shard.', where=str(index), remedy=remedy)
    save_checkpoint(target, tensors)
