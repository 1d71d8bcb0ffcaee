"""The mini suite's models: a small CLIP and its experts, trained here by `mini_training.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from pmqbench.files import hash8
from pmqbench.sources.base import SOURCES
from pmqbench.sources.mini_config import OPEN_CLIP_CONFIG

if TYPE_CHECKING:
    from pmqbench.recipes import Suite
    from pmqbench.tasks.definitions import Task


BASE_THREADS = 2  # nothing else can run meanwhile; always as many, so that machines with other numbers of cores round alike


@SOURCES.register("mini")
@dataclass(frozen=True, kw_only=True)
class MiniModels:
    """A base pre-trained on the suite's tasks, and one fine-tuned expert each."""

    seed: Annotated[int, Field(ge=0, description="Seed of initial weights, batches and captions.")] = 0

    trains: ClassVar[bool] = True
    code: ClassVar[str] = "pmqbench.sources.mini_training"

    def check(self, names: Sequence[str], family: Any, where: str) -> None:
        """See Source: everything it needs is made here."""

    def base_id(self, suite: Suite) -> str:
        """See Source."""
        tasks = [[task.data_id, task.classnames, task.templates] for task in suite.tasks]
        return f"mini-base-{hash8([self.seed, suite.family, OPEN_CLIP_CONFIG, tasks])}"

    def expert_id(self, suite: Suite, task: Task) -> str:
        """See Source."""
        return f"mini-{task.name}-{hash8([self.seed, suite.base_id, task.data_id])}"

    def model_config(self) -> Mapping[str, Any] | None:
        """See Source."""
        return OPEN_CLIP_CONFIG

    def fetch_base(self, folder: Path, family: Any, data: Mapping[str, Path], tasks: Sequence[Task], threads: int) -> None:
        """See Source."""
        from pmqbench.checkpoints import save_checkpoint
        from pmqbench.files import write_json
        from pmqbench.sources.mini_training import train_base
        from pmqbench.tasks.splits import load_arrays

        prompts = {task.name: (list(task.classnames), list(task.templates)) for task in tasks}
        state, config = train_base({name: load_arrays(path) for name, path in data.items()}, prompts, self.seed, BASE_THREADS)
        write_json(folder / family.config_file, config)
        save_checkpoint(folder / family.weights_file, state)

    def fetch_expert(
        self, folder: Path, family: Any, task: Task, base: Path | None, data: Path | None, head: Path | None, threads: int
    ) -> None:
        """See Source."""
        from safetensors.torch import load_file

        from pmqbench.checkpoints import save_checkpoint
        from pmqbench.files import read_json, write_json
        from pmqbench.sources.mini_training import train_expert
        from pmqbench.tasks.splits import load_arrays

        config = read_json(base / family.config_file)
        state = load_file(base / family.weights_file)
        images, labels = load_arrays(data)
        tower = train_expert(state, config, images, labels, load_file(head)["classes"], self.seed, threads)
        write_json(folder / family.config_file, config)
        save_checkpoint(folder / family.weights_file, tower)
