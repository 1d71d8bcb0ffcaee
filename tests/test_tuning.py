"""The choice among candidates."""

import pytest

from pmqbench.targets import candidates_of
from pmqbench.tuning import choose


def test_the_best_average_is_chosen_and_of_equals_the_smaller_values():
    scores = {(0.1, 2): (0.5, 0.5), (0.1, 1): (0.9, 0.3), (10, 1): (0.4, 0.8), (10, 2): (0.6, 0.6)}
    candidates = candidates_of({"anchor": [10, 0.1], "alpha": [2, 1]})
    assert len(candidates) == 4
    choice = choose(candidates, lambda options: dict(zip("ab", scores[(options["anchor"], options["alpha"])], strict=True)))
    assert choice["chosen"] == {"anchor": 0.1, "alpha": 1}  # 0.6, as two others have
    assert [point["average"] for point in choice["curve"]] == pytest.approx([0.6, 0.5, 0.6, 0.6])
    assert choice["curve"][2]["tasks"] == {"a": 0.4, "b": 0.8}


def test_without_options_there_is_one_candidate():
    assert candidates_of({}) == [{}]
