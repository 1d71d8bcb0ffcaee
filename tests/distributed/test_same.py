"""Two processes that share three tasks get what one gets: calibration bit for bit, distillation within rounding."""

from __future__ import annotations

import pytest
import torch

from pmqbench.distributed import ALONE, World
from pmqbench.errors import ConfigError
from pmqbench.quantization.calibrate import quantize_model
from pmqbench.quantization.methods.autoround import Autoround
from tests.distributed.work import METHODS
from tests.quantization.toy import make_suite

MEASURED = ("seconds", "peak_memory_mb")
OWN_LOSSES = 1e-5
"""By how much losses may differ, relatively: gradients are added up in another order. 2e-7 at most when this was written."""


def told(records):
    """Layer records without what is measured anew in every run."""
    return [{key: value for key, value in record.items() if key not in MEASURED} for record in records]


@pytest.mark.parametrize("name", METHODS)
def test_calibration_gives_the_same_bits(outcomes, name):
    one, two = (outcomes[processes].found[name] for processes in (1, 2))
    assert all(torch.equal(tensor, two.tensors[key]) for key, tensor in one.tensors.items())
    assert one.codes.keys() == two.codes.keys()
    for layer, coded in one.codes.items():
        assert torch.equal(coded.codes, two.codes[layer].codes)
        assert torch.equal(coded.scale, two.codes[layer].scale)
    assert told(one.records) == told(two.records)
    assert [list(record["task_weights"]) for record in two.records] == [["one", "two", "three"]] * len(two.records)


def test_distillation_gives_the_same_within_rounding(outcomes):
    one, two = (outcomes[processes].found["distill"] for processes in (1, 2))
    for point, other in zip(one.curve, two.curve, strict=True):
        assert point["step"] == other["step"]
        for loss in ("loss", "held_out"):
            assert other[loss] == (point[loss] and pytest.approx(point[loss], rel=OWN_LOSSES))
    differ = sum(int((coded.codes != two.codes[layer].codes).sum()) for layer, coded in one.codes.items())
    assert differ <= 1e-3 * sum(coded.codes.numel() for coded in one.codes.values())


@pytest.mark.parametrize("processes", [1, 2])
def test_a_distillation_goes_on_where_it_was_stopped(outcomes, processes):
    """Bit for bit; the first process alone keeps a state, and removes it at the end."""
    whole, resumed = (outcomes[processes].found[name] for name in ("distill", "resumed"))
    assert outcomes[processes].found["states"] == ["state.pt"]
    assert outcomes[processes].files == []
    assert all(torch.equal(tensor, resumed.tensors[name]) for name, tensor in whole.tensors.items())
    assert [point["held_out"] for point in whole.curve] == [point["held_out"] for point in resumed.curve]


def test_warnings_of_all_processes_come_together_once(outcomes):
    own, others = outcomes[1].warnings, outcomes[2].warnings
    assert others == [*own, "process 1"]
    assert own[-1] == "process 0"


def test_a_method_that_needs_all_tasks_at_once_is_refused(tmp_path):
    suite = make_suite(tmp_path)
    with pytest.raises(ConfigError, match="Autoround runs in one process"):
        quantize_model(suite.model(), Autoround(), suite.calibration, suite.experts, None, World(0, 2))


def test_tasks_go_round(monkeypatch):
    tasks = list("abcdefgh")
    assert [World(rank, 3).own(tasks) for rank in range(3)] == [list("adg"), list("beh"), list("cf")]
    assert ALONE.own(tasks) == ALONE.all_of(tasks) == list(ALONE.in_order(8, tasks)) == tasks
