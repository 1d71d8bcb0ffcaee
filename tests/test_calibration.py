"""What jobs on calibration samples share."""

from types import SimpleNamespace

from pmqbench.calibration import unlabelled


def test_each_tasks_expert_answers_its_own_batches():
    def expert(name):
        answering = SimpleNamespace(with_own_answers=lambda batch, where: (name, batch, where))
        return SimpleNamespace(label=f"expert {name}", build=lambda: answering)

    found = unlabelled({"a": [1, 2], "b": [3]}, {"b": expert("b"), "a": expert("a")})
    assert found == {
        "a": [("a", 1, "expert a, task a"), ("a", 2, "expert a, task a")],
        "b": [("b", 3, "expert b, task b")],
    }
