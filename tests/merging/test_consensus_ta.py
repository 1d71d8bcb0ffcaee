"""Consensus TA against masks of all stacked task vectors."""

import numpy as np
import pytest

from pmqbench.merging.consensus_ta import ConsensusTA

ONE = ConsensusTA(scaling=1.0)


def test_entries_that_one_expert_or_none_asks_for_stay_the_bases(merged_vectors) -> None:
    """Asked for by both; by the first alone (0.1 < 0.4 * 3); by both, at odds; by none."""
    assert merged_vectors(ONE, [1.0, 3.0, 2.0, 0.0], [2.0, 0.1, -1.0, 0.0]) == [3.0, 0.0, 1.0, 0.0]


def test_thresholds_per_expert(merged_vectors) -> None:
    method = ConsensusTA(scaling=1.0, threshold=[0.4, 0.0])
    assert merged_vectors(method, [3.0, 3.0], [0.125, 0.0]) == [3.125, 0.0]  # the second asks for all it changes


@pytest.mark.parametrize(("agreement", "expected"), [(1, 4.0), (2, 0.0), (3, 0.0)])
def test_agreement_counts_the_experts_that_ask(agreement: int, expected: float, merged_vectors) -> None:
    method = ConsensusTA(scaling=1.0, agreement=agreement)
    assert merged_vectors(method, [3.0], [0.5], [0.5]) == [expected]


def test_one_expert_cannot_be_outvoted(merged_vectors) -> None:
    assert merged_vectors(ONE, [3.0, -0.5]) == [3.0, -0.5]


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("threshold", [0.2, 0.4, 0.6])
def test_agreement(n: int, threshold: float, agrees, random_models) -> None:
    def expected(name: str, base: np.ndarray, deltas: np.ndarray) -> np.ndarray:
        total = deltas.sum(0)
        asking = (np.abs(deltas) > threshold * np.abs(total - deltas)).sum(0)
        return base + 0.3 * np.where(asking >= min(2, n), total, 0)

    agrees(ConsensusTA(threshold=threshold), *random_models(n), expected)
