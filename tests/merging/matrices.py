"""Shapes for the methods that treat weights of linear layers apart, and task vectors for their references."""

import numpy as np

Arrays = dict[str, np.ndarray]

MATRICES = {"wide.weight": (6, 10), "tall.weight": (12, 5), "position.weight": (5, 4), "bias": (6,)}
LINEAR = ("wide.weight", "tall.weight")


def task_vectors(base: Arrays, experts: list[Arrays], name: str) -> list[np.ndarray]:
    """Experts minus base as merging takes it, in float32."""
    return [(expert[name] - base[name]).astype(np.float64) for expert in experts]
