"""What a workflow asks of methods before any work starts, without torch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from pmqbench.quantization.base import QUANTIZERS

PAGE = Path(__file__).parents[2] / "docs" / "quantization.md"
NAMES = QUANTIZERS.names()  # whatever there is: a new method needs no line here
FLAGS = {  # name: (calibrated, uses_experts)
    "rtn": (False, False),
    "gptq": (True, False),
    "qep": (True, False),
    "gptaq": (True, False),
    "qronos": (True, False),
    "hqq": (False, False),
    "awq": (True, False),
    "epmq": (True, True),
}


@pytest.mark.parametrize("name", FLAGS)
def test_what_a_method_needs(name):
    method = QUANTIZERS.get(name)
    assert (method.calibrated, method.uses_experts) == FLAGS[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_method_collects_something_exactly_if_it_is_calibrated(name):
    method = QUANTIZERS.get(name)
    assert (method().sampling() is not None) == method.calibrated
    assert ("calibration_samples" in QUANTIZERS.schema(name)["properties"]) == method.calibrated
    assert method.calibrated or not method.uses_experts


@pytest.mark.parametrize("name", NAMES)
def test_a_method_stands_in_a_file_of_its_name_and_describes_its_options(name):
    schema = QUANTIZERS.schema(name)
    assert QUANTIZERS.get(name).__module__ == f"pmqbench.quantization.methods.{name}"
    assert QUANTIZERS.get(name).__doc__
    assert schema["additionalProperties"] is False
    assert {"bits", "group_size", "symmetric", "range_search"} <= schema["properties"].keys()
    for option, value in schema["properties"].items():
        assert value.get("description"), option
        assert "default" in value, option


def test_the_page_has_every_option_of_the_methods_that_it_has():
    """The two tables of docs/quantization.md that begin with a method's or an option's name."""
    text = PAGE.read_text()
    methods = set(re.findall(r"^\| `(\w+)` \|", text[text.index("## Methods") : text.index("### Options")], re.MULTILINE))
    options = text[text.index("### Options") : text.index("### Ablations")]
    assert set(FLAGS) <= methods
    for name in methods:
        missing = [option for option in QUANTIZERS.schema(name)["properties"] if f"`{option}`" not in options]
        assert missing == [], name


def test_defaults_are_those_of_the_method():
    epmq = QUANTIZERS.get("epmq")()
    assert (epmq.anchor, epmq.damping, epmq.task_weight, epmq.target_inputs) == (0.1, 0.0, "frobenius", "student")
    assert (epmq.fit_bias, epmq.fit_norms, epmq.sequential, epmq.last_block_tokens) == (False, False, "group", "all")
    assert (epmq.calibration_samples, epmq.bits, epmq.solver) == (256, 4, "gptq")
    gptq = QUANTIZERS.get("gptq")()
    gptaq, qronos = QUANTIZERS.get("gptaq")(), QUANTIZERS.get("qronos")()
    assert (gptaq.alpha, gptaq.damping, qronos.damping) == (0.25, 0.01, 1e-6)
    assert (gptq.descent_passes, gptq.refit_scales) == (0, False)
    assert (gptq.damping, gptq.task_weight, gptq.sequential, gptq.act_order) == (0.01, "tokens", "group", False)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rtn", {"bits": 5}),
        ("rtn", {"group_size": 0}),
        ("gptq", {"damping": -1}),
        ("gptq", {"descent_passes": -1}),
        ("rtn", {"range_search": "metric"}),
        ("gptaq", {"alpha": 0}),
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
