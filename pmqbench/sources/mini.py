"""The mini suite's models: a small CLIP and its experts, trained by `mini_training.py`.

What the workflow must know before any work is here, without torch or open_clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from pmqbench.files import hash8
from pmqbench.sources.base import SOURCES

if TYPE_CHECKING:
    from pmqbench.recipes import Suite
    from pmqbench.tasks.definitions import Task


HELD_OUT_EVERY = 3
"""Labels 2, 5, 8, ... of every task never occur in pre-training."""

OPEN_CLIP_CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 128,
        "quick_gelu": False,
        "vision_cfg": {"image_size": 16, "patch_size": 4, "width": 128, "layers": 4, "head_width": 32, "mlp_ratio": 4.0},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 1},
    },
    # CLIP's own mean and standard deviation of red, green and blue (open_clip.OPENAI_DATASET_MEAN and _STD).
    "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]},
}
"""The model in the layout of open_clip's `open_clip_config.json`."""

# Always as many, so that machines with other numbers of cores make the same weights; nothing else can run beside the base.
BASE_THREADS, EXPERT_THREADS = 2, 1


@SOURCES.register("mini")
@dataclass(frozen=True, kw_only=True)
class MiniModels:
    """A base pre-trained on the suite's tasks, and one fine-tuned expert each."""

    seed: Annotated[int, Field(ge=0, description="Seed of initial weights, batches and captions.")] = 0

    trains: ClassVar[bool] = True
    code: ClassVar[str] = "pmqbench.sources.mini_training"

    def check(self, names: Sequence[str], family: Any, where: str) -> None:
        """Nothing to check: everything it needs is made here."""

    def base_id(self, suite: Suite) -> str:
        """The tasks' data and prompts count: they are the captions."""
        tasks = [[task.data_id, task.classnames, task.templates] for task in suite.tasks]
        return f"mini-base-{hash8([self.seed, suite.family, OPEN_CLIP_CONFIG, tasks])}"

    def expert_id(self, suite: Suite, task: Task) -> str:
        """The base counts, and the task's data."""
        return f"mini-{task.name}-{hash8([self.seed, suite.base_id, task.data_id])}"

    def place(self, task: str) -> None:
        """Nowhere: each expert is trained here."""

    def downloads(self, task: str) -> bool:
        """None."""
        return False

    def model_config(self, family: Any) -> Mapping[str, Any]:
        """Always the same."""
        return OPEN_CLIP_CONFIG

    def fetch_base(self, folder: Path, family: Any, data: Mapping[str, Path], tasks: Sequence[Task]) -> None:
        """Trains on the training splits of all tasks."""
        from pmqbench.checkpoints import save_checkpoint
        from pmqbench.files import write_json
        from pmqbench.sources.mini_training import train_base
        from pmqbench.tasks.splits import load_arrays

        prompts = {task.name: (list(task.classnames), list(task.templates)) for task in tasks}
        state, config = train_base({name: load_arrays(path) for name, path in data.items()}, prompts, self.seed, BASE_THREADS)
        write_json(folder / family.config_file, config)
        save_checkpoint(folder / family.weights_file, state)

    def fetch_expert(self, folder: Path, family: Any, task: Task, base: Path, data: Path | None, head: Path | None) -> None:
        """Fine-tunes the base's vision tower on the task's training split."""
        from safetensors.torch import load_file

        from pmqbench.checkpoints import save_checkpoint
        from pmqbench.files import read_json, write_json
        from pmqbench.sources.mini_training import train_expert
        from pmqbench.tasks.splits import load_arrays

        config = read_json(base / family.config_file)
        state = load_file(base / family.weights_file)
        images, labels = load_arrays(data)
        tower = train_expert(state, config, images, labels, load_file(head)["classes"], self.seed, EXPERT_THREADS)
        write_json(folder / family.config_file, config)
        save_checkpoint(folder / family.weights_file, tower)
