"""Breadcrumbs against masks made by sorting each row."""

import numpy as np
import pytest

from pmqbench.merging.breadcrumbs import Breadcrumbs

ROW = [10.0, -5.0, 4.0, 3.0, -2.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_outliers_and_small_entries_go_row_by_row(merged_vectors) -> None:
    method = Breadcrumbs(keep=0.2, remove=0.1)
    kept = [0.0, -5.0, 4.0, *[0.0] * 7]
    assert merged_vectors(method, ROW) == kept
    assert merged_vectors(method, [ROW, [value / 100 for value in ROW]])[1] == pytest.approx([value / 100 for value in kept])
    assert merged_vectors(Breadcrumbs(keep=1.0, remove=0.0), ROW) == ROW
    assert merged_vectors(Breadcrumbs(keep=0.2, remove=0.05), ROW) == [10.0, -5.0, *[0.0] * 8]  # int(0.05 * 10) = 0 outliers


def test_a_scalar_is_no_row(merged_vectors) -> None:
    assert merged_vectors(Breadcrumbs(scaling=0.5), 4.0, 2.0) == 3.0


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize(("keep", "remove"), [(0.1, 0.01), (0.3, 0.2), (0.85, 0.1)])
def test_agreement(n: int, keep: float, remove: float, agrees, random_models) -> None:
    def masked(row: np.ndarray) -> np.ndarray:
        order = np.argsort(-np.abs(row), kind="stable")
        first = int(remove * len(row))
        result = np.zeros_like(row)
        chosen = order[first : first + int(keep * len(row))]
        result[chosen] = row[chosen]
        return result

    def expected(name: str, base: np.ndarray, deltas: np.ndarray) -> np.ndarray:
        kept = np.apply_along_axis(masked, -1, deltas) if base.ndim else deltas
        return base + np.tensordot(scaling, kept, 1)

    scaling = [0.5 + 0.1 * e for e in range(n)]
    agrees(Breadcrumbs(keep=keep, remove=remove, scaling=scaling), *random_models(n), expected)
