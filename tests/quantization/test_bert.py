"""BERT through every merger and every quantizer: padding, foldings, and experts' own inputs."""

import json

import pytest
import torch

from pmqbench.families.bert import BertFamily
from pmqbench.merging.base import MERGERS
from pmqbench.merging.engine import merge
from pmqbench.quantization.awq import fold
from pmqbench.quantization.base import QUANTIZERS
from pmqbench.quantization.calibrate import Expert, quantize_model
from pmqbench.quantization.streams import expert_stream
from tests.families.bert_toy import batch, tiny_bert

FAMILY = BertFamily()
LENGTHS = {"a": [[9, 4, 7], [5]], "b": [[12, 3]]}


QUICK = {"autoround": {"steps": 4}}


def batches(extra=0):
    return {t: [batch(rows, extra, seed=i) for i, rows in enumerate(parts)] for t, parts in LENGTHS.items()}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """Folders of a base and two experts, of which no tensor is the same, and of their average."""
    folder = tmp_path_factory.mktemp("bert")
    for name, noise in {"base": 0.0, "a": 0.02, "b": 0.04}.items():
        tiny_bert(noise=noise).save_pretrained(folder / name)
    FAMILY.save(folder / "merged", merged(folder, "simple_average"), folder / "base", {})
    return folder


def merged(folder, method):
    schema = MERGERS.schema(method)
    needed = {name: 0.5 for name in schema.get("required", ()) if name in schema["properties"]}
    base, *experts = (FAMILY.checkpoint(folder / name, name) for name in ("base", *LENGTHS))
    return merge(MERGERS.get(method)(**needed), base, experts)


def experts(suite):
    return {t: Expert(t, FAMILY.checkpoint(suite / t), lambda t=t: FAMILY.build(suite / t)) for t in LENGTHS}


def quantized(suite, name, extra=0, **options):
    method = QUANTIZERS.get(name)(**QUICK.get(name, {}), **options)
    return quantize_model(FAMILY.build(suite / "merged"), method, batches(extra), experts(suite))


@pytest.mark.parametrize("method", MERGERS.names())
def test_every_merger(suite, tmp_path, method):
    tensors = merged(suite, method)
    FAMILY.save(tmp_path, tensors, suite / "base", {})
    model = FAMILY.build(tmp_path)
    assert set(tensors) == set(model.state_dict())
    base = FAMILY.checkpoint(suite / "base")
    assert sum(not torch.equal(tensors[name], base.tensor(name)) for name in tensors) > 30
    assert bool(model(batch([5, 2])).isfinite().all())


@pytest.mark.parametrize("name", QUANTIZERS.names())
def test_every_quantizer(suite, name):
    """Every linear layer is coded, and 8 bits are nearly the merged model where that is the target."""
    made = quantized(suite, name, bits=8)
    linear = FAMILY.linear_shapes(json.loads((suite / "merged/config.json").read_text()))
    assert set(made.codes) == set(linear)
    assert [record["layer"] for record in made.records] == list(linear)
    if not QUANTIZERS.get(name).uses_experts:  # whose target is the experts
        model, full = FAMILY.build(suite / "merged"), FAMILY.build(suite / "merged")
        model.load_state_dict(made.tensors)
        inputs = batch([9, 3], seed=5)
        assert (model(inputs) - full(inputs)).norm() < 0.05 * full(inputs).norm()


@pytest.mark.parametrize("name", [name for name in QUANTIZERS.names() if QUANTIZERS.get(name).calibrated])
def test_padding_changes_no_moment_and_no_search(suite, name):
    # 40 tokens leave H singular: at Qronos's own damping of 1e-6 sums in another order move its target.
    options = {"damping": 0.01} if name == "qronos" else {}
    short, long = (quantized(suite, name, extra, **options) for extra in (0, 5))
    assert {record["tokens"] for record in short.records} == {record["tokens"] for record in long.records} == {40}
    codes = [(short.codes[layer].codes, long.codes[layer].codes) for layer in short.codes]
    differ = sum(int((one != other).sum()) for one, other in codes)
    assert differ <= 0.002 * sum(one.numel() for one, _ in codes)


def test_foldings_keep_the_function(suite):
    model, (inputs,) = FAMILY.build(suite / "merged"), batches()["b"]
    before, folded = model(inputs), [group for block in model.blocks for group in block.groups if group.norm or group.producer]
    assert len(folded) == 2  # attention's output, once a block
    generator = torch.Generator().manual_seed(0)
    for group in folded:
        width = model.get_submodule(group.layers[0]).in_features
        fold(model, group, torch.rand(width, generator=generator) * 3 + 0.2)
    torch.testing.assert_close(model(inputs), before, rtol=1e-4, atol=1e-5)


def test_experts_run_on_their_own_weights(suite):
    """What comes out of the last block in the expert stream is what the whole expert gives."""
    calibration = batches()
    stream = expert_stream(experts(suite), calibration, torch.device("cpu"))
    for block in stream.model.blocks:
        stream.advance(block, range(block.stages))
    for task, inputs in calibration.items():
        whole = FAMILY.build(suite / task)
        for state, one in zip(stream.states[task], inputs, strict=True):
            torch.testing.assert_close(whole.finish(state), whole(one), rtol=1e-5, atol=1e-5)


def test_the_last_layers_of_the_mlps_are_named(suite):
    blocks = FAMILY.build(suite / "merged").blocks
    ends = [layer for block in blocks for group in block.groups if group.mlp_output for layer in group.layers]
    assert ends == [f"encoder.layer.{i}.output.dense" for i in range(len(blocks))]
