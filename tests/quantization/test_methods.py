"""What a workflow asks of methods before any work starts, without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from pmqbench.quantization.base import QUANTIZERS

EXPECTED = {  # name: (calibrated, uses_experts)
    "rtn": (False, False),
    "gptq": (True, False),
    "qep": (True, False),
    "awq": (True, False),
    "epmq": (True, True),
}


def test_registry_and_flags():
    assert set(EXPECTED) <= set(QUANTIZERS.names())
    for name, flags in EXPECTED.items():
        method = QUANTIZERS.get(name)
        assert (method.calibrated, method.uses_experts) == flags
        assert (method().sampling() is not None) == flags[0]


@pytest.mark.parametrize("name", EXPECTED)
def test_schema_describes_every_option(name):
    schema = QUANTIZERS.schema(name)
    assert schema["additionalProperties"] is False
    assert {"bits", "group_size", "symmetric", "range_search"} <= schema["properties"].keys()
    assert ("calibration_samples" in schema["properties"]) == EXPECTED[name][0]
    for option, value in schema["properties"].items():
        assert value.get("description"), option
        assert "default" in value, option


def test_defaults_are_those_of_the_method():
    epmq = QUANTIZERS.get("epmq")()
    assert (epmq.anchor, epmq.damping, epmq.task_weight, epmq.target_inputs) == (0.1, 0.0, "frobenius", "student")
    assert (epmq.fit_bias, epmq.fit_norms, epmq.sequential, epmq.last_block_tokens) == (False, False, "group", "all")
    assert (epmq.calibration_samples, epmq.bits, epmq.solver) == (256, 4, "gptq")
    gptq = QUANTIZERS.get("gptq")()
    assert (gptq.damping, gptq.task_weight, gptq.sequential, gptq.act_order) == (0.01, "tokens", "group", False)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rtn", {"bits": 5}),
        ("rtn", {"group_size": 0}),
        ("gptq", {"damping": -1}),
        ("epmq", {"anchor": -0.1}),
        ("epmq", {"target_inputs": "experts"}),
        ("epmq", {"alpha": 1.5}),
        ("awq", {"calibration_samples": 0}),
    ],
)
def test_options_out_of_range_are_refused(name, options):
    with pytest.raises(ValidationError):
        TypeAdapter(QUANTIZERS.get(name)).validate_python(options)


def test_methods_are_known_without_torch():
    code = (
        "import sys; from pmqbench.quantization.base import QUANTIZERS as q;"
        "[(q.schema(n), q.get(n)().sampling()) for n in q.names()]; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
