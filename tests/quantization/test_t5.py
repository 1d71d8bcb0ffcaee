"""T5 in the layer loop: padding, foldings, experts' own inputs, and cross-attention on the quantized encoder's output."""

import logging
from dataclasses import dataclass

import pytest
import torch

from pmqbench.families.t5 import T5
from pmqbench.quantization.awq import fold
from pmqbench.quantization.calibrate import Expert, quantize_model
from pmqbench.quantization.methods.autoround import Autoround
from pmqbench.quantization.methods.awq import Awq
from pmqbench.quantization.methods.epmq import Epmq
from pmqbench.quantization.methods.gptq import Gptq
from pmqbench.quantization.methods.mixed import Mixed
from pmqbench.quantization.methods.rtn import Rtn
from pmqbench.quantization.streams import expert_stream
from tests.families.t5_toy import KINDS, batch, save, tiny_t5

FAMILY = T5()
LENGTHS = {"a": [([9, 4, 7], [2, 3, 1]), ([5], [2])], "b": [([12, 3], [1, 4])]}


def batches(extra=0):
    return {t: [batch(*counts, extra=extra, seed=i) for i, counts in enumerate(parts)] for t, parts in LENGTHS.items()}


@pytest.fixture(scope="module", params=list(KINDS))
def suite(request, tmp_path_factory):
    """Folders of a merged model and two experts, of which no tensor is the same."""
    folder = tmp_path_factory.mktemp(request.param)
    for name, noise in {"merged": 0.0, "a": 0.05, "b": 0.1}.items():
        save(tiny_t5(request.param, noise=noise), folder / name, request.param)
    return folder


def experts(suite):
    return {t: Expert(t, FAMILY.checkpoint(suite / t), lambda t=t: FAMILY.build(suite / t)) for t in LENGTHS}


def inputs64(model, layer, inputs):
    """The inputs (tokens, in) of a layer, padding left out, in a whole forward pass."""
    caught = []
    handle = model.get_submodule(layer).register_forward_pre_hook(lambda _, args: caught.append(args[0].flatten(0, -2)))
    for one in inputs:
        model(one)
    handle.remove()
    encoder = layer.startswith("encoder.") or layer.endswith(("EncDecAttention.k", "EncDecAttention.v"))
    masks = [one["attention_mask" if encoder else "decoder_attention_mask"].flatten().bool() for one in inputs]
    return torch.cat([x[mask] for x, mask in zip(caught, masks, strict=True)]).double()


@pytest.mark.parametrize(
    "method",
    [Gptq(calibration_samples=4), Epmq(target_inputs="expert"), Awq(search_samples=2), Mixed(bits=3, probe_samples=2)],
)
def test_padding_changes_no_moment_and_no_search(suite, method):
    short, long = (quantize_model(FAMILY.build(suite / "merged"), method, batches(extra), experts(suite)) for extra in (0, 5))
    assert [record["tokens"] for record in short.records] == [record["tokens"] for record in long.records]
    assert {record["tokens"] for record in short.records} == {40, 13}
    codes = [(short.codes[name].codes, long.codes[name].codes) for name in short.codes]
    differ = sum(int((one != other).sum()) for one, other in codes)
    assert differ <= 0.002 * sum(one.numel() for one, _ in codes)


@pytest.mark.parametrize("name", ["encoder.block.1", "decoder.block.0", "decoder.block.2"])
def test_foldings_keep_the_function(suite, name):
    model, (inputs,) = FAMILY.build(suite / "merged"), batches()["b"]
    before = model(inputs)
    block = next(block for block in model.blocks if block.name == name)
    folded = [group for group in block.groups if group.norm or group.producer]
    assert len(folded) == (6 if name.startswith("decoder") else 4)  # q,k,v; o; wi; wo, and the cross-attention's q; o
    generator = torch.Generator().manual_seed(0)
    for group in folded:
        width = model.get_submodule(group.layers[0]).in_features
        fold(model, group, torch.rand(width, generator=generator) * 3 + 0.2)
    real = inputs["decoder_attention_mask"].bool()
    torch.testing.assert_close(model(inputs)[real], before[real], rtol=1e-4, atol=1e-4)


def test_experts_run_on_their_own_weights(suite):
    """Every block's inputs in the expert stream are those of the whole expert, the encoder's final norm included."""
    given, calibration = experts(suite), batches()
    stream = expert_stream(given, calibration, torch.device("cpu"))
    whole = {task: FAMILY.build(suite / task) for task in LENGTHS}
    for block in stream.model.blocks:
        layers = tuple(group.layers[0] for group in block.groups)
        for task in LENGTHS:
            stream.enter(task, block)
            for index, state in enumerate(stream.states[task]):
                caught = stream.inputs(block, range(block.stages), state, layers)
                for layer in layers:
                    mask = stream.model.token_weights(block, layer, state, False) > 0
                    expected = inputs64(whole[task], layer, [calibration[task][index]])
                    torch.testing.assert_close(caught[layer][mask].double(), expected, rtol=1e-4, atol=1e-4)
        stream.advance(block, range(block.stages))


@dataclass(frozen=True, kw_only=True)
class Spy(Gptq):
    """GPTQ that keeps the moments it was given."""

    seen: dict

    def solve(self, problem):
        self.seen[problem.names] = problem.moments
        return super().solve(problem)


def test_moments_are_those_of_the_model_as_quantized_so_far(suite):
    """The last group's inputs, and cross-attention's k and v on the quantized encoder's output."""
    seen, calibration = {}, {"a": batches()["a"]}
    model = FAMILY.build(suite / "merged")
    quantize_model(model, Spy(bits=3, seen=seen), calibration, {})
    cross = tuple(f"decoder.block.1.layer.1.EncDecAttention.{part}" for part in "kv")
    for names in (cross, ("decoder.block.2.layer.2.DenseReluDense.wo",)):
        x = inputs64(model, names[0], calibration["a"])
        torch.testing.assert_close(seen[names].second.double(), x.T @ x / len(x), rtol=1e-4, atol=1e-5)
    full = inputs64(FAMILY.build(suite / "merged"), cross[0], calibration["a"])
    assert (seen[cross].second.double() - full.T @ full / len(full)).abs().max() > 1e-3


def test_block_reconstruction_of_both_stacks(suite, caplog):
    """Every block of encoder and decoder is looked at, and its layers' codes are what the model runs with."""
    method = Autoround(bits=2, of="rtn", teacher="merged", steps=40)
    with caplog.at_level(logging.INFO, "pmqbench.quantization.block_reconstruction"):
        made, start = (
            quantize_model(FAMILY.build(suite / "merged"), each, batches(), experts(suite)) for each in (method, Rtn(bits=2))
        )
    shown = [message.split(":")[0] for message in caplog.messages if "of the teacher's variance" in message]
    assert shown == [block.name for block in FAMILY.build(suite / "merged").blocks]
    moved = {name.split(".")[0] for name, coded in made.codes.items() if not torch.equal(coded.codes, start.codes[name].codes)}
    assert moved == {"encoder", "decoder"}
    assert all(torch.equal(coded.weight(), made.tensors[f"{name}.weight"]) for name, coded in made.codes.items())
