"""What a model cost to make from the experts' checkpoints, besides their training: time, unlabelled samples, labels.

Costs travel with the model: the manifest of a merged, quantized or refined model states them cumulatively, that is, with those
of the models and of the choices on validation data that it was made from. Manifests of the base and the experts state none,
since these are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

KEY = "costs"


@dataclass(frozen=True)
class Costs:
    """Costs of one step, or of all steps up to a model. Those of consecutive steps add up: `merge + quantize`.

    Attributes:
        calibration_seconds: wall-clock seconds, of choosing options on validation data too; a sum over steps.
        calibration_samples: the most unlabelled samples of a task that any step saw; 0 for none.
        validation_labels: whether any step chose something by validation labels.
    """

    calibration_seconds: float = 0.0
    calibration_samples: int = 0
    validation_labels: bool = False

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

    def __add__(self, other: Costs) -> Costs:
        return Costs(
            round(self.calibration_seconds + other.calibration_seconds, 3),
            max(self.calibration_samples, other.calibration_samples),
            self.validation_labels or other.validation_labels,
        )

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Costs:
        """Those that a manifest, or the file of a choice on validation data, states; none for the base and the experts."""
        return cls(**manifest.get(KEY, {}))

    def stated(self) -> dict[str, dict[str, Any]]:
        """The entry of a manifest, or of the file of a choice on validation data, that `from_manifest` reads."""
        return {KEY: asdict(self)}
