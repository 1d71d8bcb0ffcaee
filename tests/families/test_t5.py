"""The t5 family against transformers itself: names, forward pass, greedy answers, and files both can read."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import T5ForConditionalGeneration

from pmqbench.errors import DataError, NumericalError
from pmqbench.families.t5 import T5
from pmqbench.families.t5_config import t5_config
from pmqbench.families.t5_model import position_buckets
from tests.families.t5_toy import KINDS, SIZES, batch, save, tiny_t5

FAMILY = T5()
FLAN_BASE = {
    "model_type": "t5",
    "vocab_size": 32128,
    "d_model": 768,
    "d_kv": 64,
    "d_ff": 2048,
    "num_heads": 12,
    "num_layers": 12,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module", params=list(KINDS))
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    save(tiny_t5(request.param), folder, request.param)
    return folder, T5ForConditionalGeneration.from_pretrained(folder).eval()


def test_logits_equal_transformers_forward(saved):
    folder, model = saved
    inputs = batch([9, 4, 17], [3, 5, 1])
    with torch.no_grad():
        expected = model(**inputs).logits
        logits = FAMILY.build(folder)(inputs)
    real = inputs["decoder_attention_mask"].bool()
    torch.testing.assert_close(logits[real], expected[real], rtol=1e-5, atol=2e-5)


def test_greedy_answers_equal_transformers(saved):
    folder, model = saved
    inputs = {name: part for name, part in batch([12, 3, 8, 5, 1], [1] * 5).items() if not name.startswith("decoder")}
    # use_cache=False: transformers 5.23 sizes its cache by the encoder's layers, and fails with more decoder layers.
    answers = model.generate(**inputs, max_length=10, do_sample=False, num_beams=1, use_cache=False)
    assert torch.equal(FAMILY.build(folder).generate(inputs, max_length=10), answers)


def test_answers_end_where_the_end_token_comes(saved):
    model = FAMILY.build(saved[0])
    inputs = {name: part for name, part in batch([12, 3, 8, 5], [1] * 4).items() if not name.startswith("decoder")}
    free = model.generate(inputs, max_length=6)
    model.config = type(model.config)(**{**vars(model.config), "end": int(free[0, 2])})
    ended = model.generate(inputs, max_length=6)
    for row, answer in zip(free.tolist(), ended.tolist(), strict=True):
        stop = row.index(model.config.end, 1) if model.config.end in row[1:] else len(row) - 1
        assert answer == (row[: stop + 1] + [0] * 5)[: len(answer)]


def test_padding_changes_nothing(saved):
    model = FAMILY.build(saved[0])
    short, long = batch([9, 4], [3, 2]), batch([9, 4], [3, 2], extra=6)
    real = short["decoder_attention_mask"].bool()
    torch.testing.assert_close(model(long)[:, :3][real], model(short)[real], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_position_buckets_are_transformers(causal):
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(40)[None] - torch.arange(40)[:, None]
    expected = T5Attention._relative_position_bucket(distance, not causal, 8, 16)
    assert torch.equal(position_buckets(distance, causal, 8, 16), expected)


def test_names_are_transformers_with_the_embedding_once(saved):
    folder, model = saved
    tower = FAMILY.checkpoint(folder)
    copies = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}
    if model.lm_head.weight is model.shared.weight:
        copies.add("lm_head.weight")
    assert set(tower.names()) == set(model.state_dict()) - copies
    assert set(tower.names()) == set(FAMILY.build(folder).state_dict())
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in tower.items())


def test_transformers_loads_what_is_saved(saved, tmp_path):
    folder, model = saved
    changed = {name: tensor * 1.5 for name, tensor in FAMILY.checkpoint(folder).items()}
    FAMILY.save(tmp_path, changed, folder, {"method": "x"})
    loaded, report = T5ForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in changed.items())
    assert (loaded.lm_head.weight is loaded.shared.weight) == (model.lm_head.weight is model.shared.weight)
    inputs = batch([5, 7], [2, 4])
    with torch.no_grad():
        torch.testing.assert_close(FAMILY.build(tmp_path)(inputs)[1], loaded(**inputs).logits[1], rtol=1e-4, atol=1e-4)


def test_groups_cover_every_linear_layer_once(saved):
    folder, _ = saved
    model = FAMILY.build(folder)
    linear = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"]
    grouped = [layer for block in model.blocks for group in block.groups for layer in group.layers]
    assert sorted(grouped) == sorted(linear)
    shapes = FAMILY.linear_shapes(json.loads((folder / "config.json").read_text()))
    assert {name: tuple(model.get_submodule(name).weight.shape) for name in linear} == shapes
    assert list(shapes) == grouped


def test_parameters_of_flan_t5_base():
    shapes = t5_config(FLAN_BASE).shapes(own_head=True)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 247_577_856
    shapes = t5_config(FLAN_BASE | {"feed_forward_proj": "relu", "d_ff": 3072}).shapes(own_head=False)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 222_903_552  # T5-base


def test_cross_attention_reads_the_encoders_tokens(saved):
    model = FAMILY.build(saved[0])
    state = model.embed(batch([9, 4], [3, 2]))
    encoder, decoder = model.blocks[0], model.blocks[-1]
    sums = {layer: model.token_weights(decoder, layer, state, True).sum().item() for g in decoder.groups for layer in g.layers}
    reads_encoder = {layer for layer, total in sums.items() if total == 13}
    assert reads_encoder == {f"{decoder.name}.layer.1.EncDecAttention.{part}" for part in "kv"}
    assert {total for layer, total in sums.items() if layer not in reads_encoder} == {5}
    assert model.token_weights(encoder, encoder.groups[0].layers[0], state, False).sum() == 13


@pytest.mark.parametrize("name", ["encoder.embed_tokens.weight", "lm_head.weight"])
def test_the_shared_embedding_may_be_stored_under_any_of_its_names(tmp_path, name):
    save(tiny_t5("plain"), tmp_path, "plain")
    tensors = load_file(tmp_path / FAMILY.weights_file)
    embedding = tensors[name] = tensors.pop("shared.weight")
    save_file(tensors, tmp_path / FAMILY.weights_file)
    tower = FAMILY.checkpoint(tmp_path)
    assert torch.equal(tower.tensor("shared.weight"), embedding)
    assert "lm_head.weight" not in tower.names()


def test_an_own_projection_counts_whatever_the_config_says(tmp_path):
    tiny_t5("gated").save_pretrained(tmp_path)  # transformers 5 writes tie_word_embeddings: true
    assert "lm_head.weight" in FAMILY.checkpoint(tmp_path).names()
    inputs = batch([5, 7], [4, 4])
    with torch.no_grad():
        expected = T5ForConditionalGeneration.from_pretrained(tmp_path)(**inputs).logits
    torch.testing.assert_close(FAMILY.build(tmp_path)(inputs), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: t.pop("encoder.final_layer_norm.weight"), DataError, "encoder.final_layer_norm.weight"),
        (lambda t: t["shared.weight"].fill_(float("nan")), NumericalError, "shared.weight"),
        (lambda t: t.update({"decoder.final_layer_norm.weight": torch.ones(23)}), DataError, "(23,)"),
    ],
)
def test_broken_weights_are_named(tmp_path, change, error, words):
    save(tiny_t5("plain"), tmp_path, "plain")
    tensors = load_file(tmp_path / FAMILY.weights_file)
    change(tensors)
    save_file(tensors, tmp_path / FAMILY.weights_file)
    with pytest.raises(error) as caught:
        FAMILY.build(tmp_path, "expert glue-cola")
    assert words in str(caught.value)
    assert "expert glue-cola" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mt5"}, "model_type is mt5"),
        ({"d_kv": None}, "d_kv missing"),
        ({"feed_forward_proj": "gated-swish9"}, "activation swish9"),
        ({"decoder_start_token_id": 2}, "token 0"),
        ({"feed_forward_proj": ["relu"]}, "activation .* unknown"),
        ({"layer_norm_epsilon": "1e-6"}, "layer_norm_epsilon is '1e-6'"),
    ],
)
def test_foreign_configs_are_refused(change, words):
    config = {name: value for name, value in (FLAN_BASE | change).items() if value is not None}
    with pytest.raises(DataError, match=words):
        t5_config(config)


def test_broken_outputs_are_an_error(saved):
    model = FAMILY.build(saved[0])
    model.decoder.final_layer_norm.weight.data = torch.full((SIZES["d_model"],), 1e38)
    inputs = batch([4], [1])
    with pytest.raises(NumericalError, match="merged model, task x: the model's outputs are NaN or Inf"):
        model.generate(inputs, 10, "merged model, task x")


def test_toy_sizes_tell_stacks_and_widths_apart():
    assert len({SIZES[key] for key in ("num_layers", "num_decoder_layers")}) == 2
    assert SIZES["num_heads"] * SIZES["d_kv"] != SIZES["d_model"]
