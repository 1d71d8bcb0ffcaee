"""What an evaluation protocol is: how a family's models see a task's examples, and how their answers are scored.

A family names its protocol; rules and scripts ask the protocol and know neither images nor text. No torch here: rules read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pmqbench.registry import Registry

if TYPE_CHECKING:
    import numpy as np

    from pmqbench.families.base import BlockModel
    from pmqbench.tasks.definitions import Task


@dataclass(frozen=True)
class Score:
    """One model's result on one task.

    Attributes:
        value: the task's metric, 0..1 (rho: -1..1).
        standard_error: of `value`, from examples.
        n: examples.
        correct: bool (n,), whether each answer is right; None for a metric without per-example outcomes.
        loss: mean cross-entropy in nats; None where the protocol has none.
        least: what the metric can be at least.
    """

    value: float
    standard_error: float
    n: int
    correct: np.ndarray | None = None
    loss: float | None = None
    least: float = 0.0


@dataclass(frozen=True)
class Assets:
    """What a protocol reads beside a task's split: files that come from the base.

    Attributes:
        base: the base's folder; the protocol's `base_files` are in it.
        head: the task's zero-shot head, if the protocol `uses_heads`.
    """

    base: Path
    head: Path | None = None

    @classmethod
    def of(cls, files: Mapping[str, str | None]) -> Assets:
        """From the paths "base" and "head"."""
        return cls(Path(files["base"]), Path(files["head"]) if files["head"] else None)


class EvaluationProtocol(Protocol):
    """How a kind of task is put to a model. Implementations: one file each in pmqbench/evaluation/protocols/.

    Attributes:
        task_class: the class of task definitions it takes.
        uses_heads: whether answers are read by a head that the family makes of the base and the task's prompts.
        base_files: files of the base's folder that it reads; the model's own files may be among them.
    """

    task_class: ClassVar[type[Task]]
    uses_heads: ClassVar[bool]
    base_files: ClassVar[tuple[str, ...]]

    def calibration_batches(
        self, split: Path, base: Path, task: str, samples: int, seed: int, batch_size: int
    ) -> Sequence[Any]:
        """Batches for the model's `embed`: `samples` examples of the task's training split, drawn with the seed.

        Imports what it uses, so that it counts as a calibration's code and the rest of the protocol, e.g. a metric, does not.

        Args:
            split: the training split's file.
            base: the base's folder, with `base_files`.
            task: its name, which the draw depends on.
            samples: how many.
            seed: of the draw.
            batch_size: examples a batch.
        """

    def examples(self, split: Path, assets: Assets) -> Any:
        """A task's split, ready for `evaluate`."""

    def evaluate(self, model: BlockModel, examples: Any, metric: str, batch_size: int, device: str, where: str) -> Score:
        """Scores the model on `examples`; NumericalError naming `where` if its outputs are NaN or Inf."""


PROTOCOLS: Registry[Any] = Registry("evaluation protocol", "pmqbench.evaluation.protocols")
