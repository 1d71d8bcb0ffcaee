"""Selection from a stream and from rows, against torch's own on everything at once."""

import pytest
import torch

from pmqbench.merging.selection import kth_smallest, largest

HEAVY_TIES = torch.randint(-3, 4, (5000,), generator=torch.Generator().manual_seed(1)).float() * 0.1
RANDOM = torch.randn(5000, generator=torch.Generator().manual_seed(2)) ** 5 * 1e-3
SETS = {
    "random": RANDOM,
    "ties": HEAVY_TIES,
    "both": torch.cat([RANDOM, HEAVY_TIES]),
    "subnormal": RANDOM * 1e-37,
    "zeros": torch.zeros(50),
    "extremes": torch.tensor([3e38, -1e-45, -0.0, 1e-45, -3.4e38]),
    "negative": -RANDOM.abs(),
    "one": torch.tensor([-2.0]),
}


def ranks_of(values: torch.Tensor) -> list[int]:
    n = len(values)
    return sorted({1, min(2, n), n // 3 + 1, max(1, (4 * n) // 5), max(1, n - 1), n})


@pytest.mark.parametrize("digits", [(16, 16), (11, 11, 10), (6, 13, 13)], ids=str)
@pytest.mark.parametrize("sign", ["signed", "magnitudes"])
@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_the_kth_value_is_exact(values: torch.Tensor, sign: str, digits: tuple[int, ...]) -> None:
    values = values.abs() if sign == "magnitudes" else values
    parts = [*values.split(701), torch.zeros(0)]
    for k in ranks_of(values):
        assert kth_smallest(lambda: ((0, part) for part in parts), [k], digits) == [values.kthvalue(k).values.item()]


def test_sets_are_told_apart_in_one_pass() -> None:
    sets, passes = [RANDOM, HEAVY_TIES, RANDOM[:100].abs()], []

    def stream():
        passes.append(1)
        return ((index, part.view(-1, 10)) for index, values in enumerate(sets) for part in values.split(50))

    ranks = [1000, 2500, 100]
    expected = [values.kthvalue(k).values.item() for values, k in zip(sets, ranks, strict=True)]
    assert kth_smallest(stream, ranks) == expected
    assert len(passes) == 2


def test_the_largest_of_each_row_the_first_of_equal_ones() -> None:
    tensor = torch.tensor([[5.0, 3.0, -3.0, 3.0], [0.0, 0.0, 1.0, 0.0]])
    assert largest(tensor, 2).tolist() == [[True, True, False, False], [True, False, True, False]]
    assert not largest(tensor, 0).any()
    assert largest(tensor, 4).all()


def test_the_largest_of_random_rows() -> None:
    values = RANDOM.view(10, 5, 100)
    expected = torch.zeros_like(values).scatter_(-1, values.abs().topk(7).indices, 1.0)
    assert torch.equal(largest(values, 7).float(), expected)
