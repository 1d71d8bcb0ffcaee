"""The sample method of docs/quantization.md does what it says."""

import pytest
import torch

from pmqbench.options import build_options
from pmqbench.quantization.base import QUANTIZERS
from pmqbench.quantization.methods.rtn import Rtn
from tests.pages import load_sample
from tests.quantization.toy import inputs64, layers, run


@pytest.fixture
def make(tmp_path, monkeypatch):
    """make(**options) -> the sample method, from its page and through the registry."""
    monkeypatch.setattr(QUANTIZERS, "_classes", dict(QUANTIZERS._classes))
    load_sample("docs/quantization.md", "QUANTIZERS.register", tmp_path)
    return lambda **options: build_options(QUANTIZERS, "bias_correction", options, "quantizers.mine")


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_biases_take_back_the_mean_error(suite, make, share):
    model, result = run(suite, make(bits=3, share=share))
    batches = [batch for own in suite.calibration.values() for batch in own]
    for layer in layers(model):
        module, merged = model.get_submodule(layer), suite.merged.get_submodule(layer)
        mean = inputs64(model, layer, batches).mean(0)
        wanted = merged.weight.double() @ mean + merged.bias.double()
        rounded = module.weight.double() @ mean + merged.bias.double()
        got = module.weight.double() @ mean + module.bias.double()
        assert torch.allclose(got - rounded, share * (wanted - rounded), atol=1e-4)
        assert float((wanted - rounded).norm()) > 1e-3
    assert all(record["bias_shift"] > 0 for record in result.records)


def test_weights_are_nearest(suite, make):
    ours, rtn = run(suite, make(bits=3))[1], run(suite, Rtn(bits=3))[1]
    assert ours.codes.keys() == rtn.codes.keys()
    assert all(torch.equal(ours.codes[layer].codes, rtn.codes[layer].codes) for layer in rtn.codes)
