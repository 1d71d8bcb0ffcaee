"""A model card's head, read back by huggingface_hub: what the model was made of and what it scores."""

import numpy as np
import pytest
from huggingface_hub import ModelCard

from pmqbench.records import Record, pack_outcomes
from pmqbench.reporting.model_card import OWN, Card, Origin, model_card
from pmqbench.tasks.definitions import load_task

COMMIT = "b" * 40


def record(task, value):
    made = {"inputs": {"data": f"{task}-1", "data_commit": COMMIT}}
    error = (value * (1 - value) / 400) ** 0.5
    correct = pack_outcomes(np.arange(400) < 400 * value)
    return Record("m", "quantized", task, 0, "accuracy", value, 400, error, 1.0, correct, 10, 1.0, 1.0, made)


@pytest.fixture
def card():
    """Of a model of two tasks, from the hub all."""
    values = {"eurosat": 0.9, "mnist": 0.7}
    made = {"git_commit": "c", "code": "d", "device": "cpu", "versions": {}, "inputs": {}}
    return {
        "suite": "mine",
        "tasks": [load_task(name) for name in values],
        "loader": "CLIPVisionModel",
        "arguments": {},
        "merge": {"method": "ties", "options": {"scaling": 0.3}},
        "quantizer": {"method": "gptq", "options": {"bits": 4, "group_size": None, "symmetric": False}},
        "refinement": None,
        "seed": 0,
        "base": Origin("o/base", COMMIT, "mit"),
        "experts": {name: Origin(f"o/{name}", COMMIT, None) for name in values},
        "rows": {label: {name: record(name, value) for name, value in values.items()} for label in (OWN, "its expert")},
        "size_bytes": 10,
        "full_bytes": 80,
        "made": made,
    }


def test_the_head_names_base_experts_and_results(card):
    head = ModelCard(model_card(Card(**card))).data.to_dict()
    assert head["base_model"] == ["o/base", "o/eurosat", "o/mnist"]
    assert head["base_model_relation"] == "quantized"
    (index,) = head["model-index"]
    assert index["name"] == "ties + gptq, 4 bits, one scale per output channel, asymmetric"
    first, second = index["results"]
    task = load_task("eurosat")
    assert first["dataset"] == {
        "name": "eurosat",
        "type": task.source["id"],
        "split": task.source.get("splits", {}).get("test", "test"),
        "revision": COMMIT,
    } | ({"config": task.source["config"]} if "config" in task.source else {})
    (metric,) = second["metrics"]
    assert (metric["type"], metric["value"]) == ("accuracy", 0.7)
    # Wilson (1927): the shares p that differ from 0.7 by 1.96 standard errors of their own.
    for bound in metric["args"]["confidence_interval"]:
        assert abs(bound - 0.7) == pytest.approx(1.96 * (bound * (1 - bound) / 400) ** 0.5, abs=1e-4)


def test_the_average_has_the_interval_of_a_mean_of_tasks(card):
    text = model_card(Card(**card))
    (line,) = [line for line in text.splitlines() if line.startswith("| average |")]
    half = 1.96 * (0.9 * 0.1 / 400 + 0.7 * 0.3 / 400) ** 0.5 / 2
    assert f"| 80.00 | {80 - 100 * half:.2f} … {80 + 100 * half:.2f} | 80.00 |" in line
    assert "suite `mine`" in text


def test_a_model_from_here_that_was_not_evaluated_claims_nothing(card):
    local = {"base": Origin("base, source local", None, None), "rows": {}, "experts": {"eurosat": Origin("e", None, None)}}
    text = model_card(Card(**card | local))
    head = ModelCard(text).data.to_dict()
    assert not {"base_model", "base_model_relation", "model-index", "model_name"} & head.keys()
    assert "## Accuracy" not in text


def test_what_was_not_rounded_is_a_merge(card):
    unrounded = {"method": "epmq", "options": card["quantizer"]["options"] | {"bits": 16}}
    assert ModelCard(model_card(Card(**card | {"quantizer": unrounded}))).data.base_model_relation == "merge"
