"""How large a suite's model and data are, from its config and the base where that is there already; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pmqbench.errors import DataError
from pmqbench.families.base import FAMILIES
from pmqbench.families.files import read_object
from pmqbench.families.sizes import ModelSize
from pmqbench.integrity import verify
from pmqbench.recipes import Suite
from pmqbench.tasks.definitions import SPLITS, Task
from pmqbench.workflow.layout import MODELS

ASSUMED_FAMILY = "clip"
ASSUMED_CONFIG = {
    "model_type": "clip",
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
    },
    "text_config": {"hidden_size": 768},
}
"""ViT-L/14: what a model counts as of which nothing is known before it is there."""
ASSUMED_EXAMPLES = 10_000
"""Of a split whose size only the data tell."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a suite's model and data."""

    suite: Suite

    @cached_property
    def _known(self) -> Mapping[str, Any] | None:
        """The config of the base: of the one that is there and whole, or as its source knows it beforehand."""
        family = FAMILIES.get(self.suite.family)()
        fetched = Path(MODELS, self.suite.base_id, family.config_file)
        if fetched.is_file():
            with suppress(
                DataError
            ):  # a damaged one is for the jobs that read it to refuse: it must not keep runs from starting
                verify([fetched])
                return read_object(fetched)
        return self.suite.base.model_config(family)

    @property
    def assumed(self) -> bool:
        """Whether nothing is known of the model yet."""
        return self._known is None

    @cached_property
    def model(self) -> ModelSize:
        """The model's size."""
        if self._known is None:
            return FAMILIES.get(ASSUMED_FAMILY)().size(ASSUMED_CONFIG)
        return FAMILIES.get(self.suite.family)().size(self._known)

    def examples(self, task: Task, split: str) -> int:
        """Examples of a task's split, at most."""
        if not task.has_data:
            return 0
        if split == "test" and task.test_examples:
            return task.test_examples
        return task.data_source().counts().get(split, ASSUMED_EXAMPLES)

    @property
    def guessed(self) -> list[str]:
        """Tasks of whose test split the size is not known."""
        tasks = (task for task in self.suite.tasks if task.has_data and not task.test_examples)
        return [task.name for task in tasks if "test" not in task.data_source().counts()]

    def data_bytes(self, task: Task) -> int:
        """Of the task's prepared splits."""
        return self.model.input_bytes * sum(self.examples(task, split) for split in SPLITS)
