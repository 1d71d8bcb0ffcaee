"""How many samples a calibration has, against how many were asked for."""

import logging

import pytest
import torch

from pmqbench.errors import DataError
from pmqbench.quantization.streams import calibration_counts

IMAGES = [torch.zeros(64, 3), torch.zeros(64, 3), torch.zeros(7, 3)]
TEXTS = [{"input_ids": torch.zeros(100, 5)}, {"input_ids": torch.zeros(100, 9)}]


def test_the_true_number_is_told_task_by_task(caplog):
    with caplog.at_level(logging.WARNING):
        assert calibration_counts({"a": IMAGES, "b": TEXTS}, 200, strict=False) == {"a": 135, "b": 200}
    (record,) = caplog.records
    assert record.getMessage().startswith("calibration of task a: 200 samples are asked for, and the data have 135")


def test_a_strict_suite_takes_no_fewer():
    assert calibration_counts({"b": TEXTS}, 200, strict=True) == {"b": 200}
    with pytest.raises(DataError, match="calibration of task a: 200 samples are asked for, and the data have 135"):
        calibration_counts({"b": TEXTS, "a": IMAGES}, 200, strict=True)
