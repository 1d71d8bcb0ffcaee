"""The bert family against transformers itself: names, forward pass with padding, heads, and files both can read."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from pmqbench.errors import DataError, NumericalError
from pmqbench.families.bert import LOGIT_SCALE, BertFamily, bert_config
from pmqbench.families.layers import tensor_shapes
from tests.families.bert_toy import SIZES, batch, mean_pooled, tiny_bert, write_tokenizer

FAMILY = BertFamily()
CONFIG = {"model_type": "bert", **SIZES}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    model = tiny_bert(hidden_act="gelu_new", layer_norm_eps=1e-3)
    model.save_pretrained(folder)
    return folder, model


@pytest.mark.parametrize("shape", [{}, {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3}, {"type_vocab_size": 5}])
def test_features_equal_transformers_forward(tmp_path, shape):
    model = tiny_bert(**shape)
    model.save_pretrained(tmp_path)
    inputs = batch([9, 4, 17, 1])
    torch.testing.assert_close(FAMILY.build(tmp_path)(inputs), mean_pooled(model, inputs), rtol=1e-5, atol=1e-5)


def test_activation_and_eps_matter(tmp_path, saved):
    """The test above could tell a wrong one."""
    folder, model = saved
    inputs = batch([9, 4])
    for change in ({"hidden_act": "gelu"}, {"layer_norm_eps": 1e-12}):
        config = json.loads((folder / "config.json").read_text()) | change
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
        assert (FAMILY.build(tmp_path)(inputs) - mean_pooled(model, inputs)).abs().max() > 1e-4


def test_padding_changes_nothing(saved):
    model = FAMILY.build(saved[0])
    short, long = batch([9, 4]), batch([9, 4], extra=6, padding=7)
    torch.testing.assert_close(model(long), model(short), rtol=1e-5, atol=1e-6)


def test_texts_beyond_the_models_positions_are_an_error(saved):
    with pytest.raises(DataError, match="a text has 25 tokens, the model takes 24"):
        FAMILY.build(saved[0])(batch([25]))


def test_names_are_transformers_without_the_pooler(saved):
    folder, model = saved
    names = FAMILY.checkpoint(folder).names()
    assert set(names) == {name for name in model.state_dict() if not name.startswith("pooler.")}
    assert set(names) == set(FAMILY.build(folder).state_dict())
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in FAMILY.checkpoint(folder).items())


def test_models_with_a_task_head_read(tmp_path):
    model = tiny_bert(cls=BertForSequenceClassification)
    model.save_pretrained(tmp_path)
    assert any(name.startswith("bert.") for name in load_file(tmp_path / "model.safetensors"))
    inputs = batch([3, 8])
    torch.testing.assert_close(FAMILY.build(tmp_path)(inputs), mean_pooled(model.bert, inputs), rtol=1e-5, atol=1e-5)


def test_old_names_and_buffers_read(tmp_path, saved):
    folder, model = saved
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(old | {"embeddings.position_ids": torch.arange(24)[None]}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    inputs = batch([3, 8])
    torch.testing.assert_close(FAMILY.build(tmp_path)(inputs), mean_pooled(model, inputs), rtol=1e-5, atol=1e-5)


def test_transformers_loads_what_is_saved(saved, tmp_path):
    folder, _ = saved
    changed = {name: tensor * 1.5 for name, tensor in FAMILY.checkpoint(folder).items()}
    FAMILY.save(tmp_path, changed, folder, {"method": "x"})
    loaded, report = BertModel.from_pretrained(tmp_path, add_pooling_layer=False, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    inputs = batch([5, 7])
    torch.testing.assert_close(FAMILY.build(tmp_path)(inputs), mean_pooled(loaded.eval(), inputs), rtol=1e-5, atol=1e-5)


def test_groups_cover_every_linear_layer_once(saved):
    folder, _ = saved
    model = FAMILY.build(folder)
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    grouped = [layer for block in model.blocks for group in block.groups for layer in group.layers]
    assert grouped == linear
    shapes = FAMILY.linear_shapes(json.loads((folder / "config.json").read_text()))
    assert {name: tuple(model.get_submodule(name).weight.shape) for name in linear} == shapes


def test_parameters_of_bert_base():
    sizes = {"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    config = CONFIG | sizes | {"intermediate_size": 3072, "max_position_embeddings": 512}
    shapes = tensor_shapes(bert_config(config).layers())
    pooler = 768 * 768 + 768
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 109_482_240 - pooler


def test_head_is_the_mean_of_sentence_embeddings(saved, tmp_path):
    folder, model = saved
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    write_tokenizer(tmp_path, ["it", "is", "about", "the", "not", "really", "apple", "blue", "plum", "stone"])
    names, templates = ["apple", "blue plum", "stone"], ["it is about the {}", "not really {}", "{}"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), pad_token="[PAD]")
    classes = []
    for name in names:
        sentences = [template.format(name) for template in templates]
        inputs = tokenizer(sentences, padding=True, truncation=False, return_tensors="pt")
        pooled = mean_pooled(model, {key: inputs[key] for key in ("input_ids", "attention_mask")})
        classes.append(torch.nn.functional.normalize(pooled, dim=-1).mean(0))
    head = FAMILY.head(tmp_path, names, templates)
    expected = torch.nn.functional.normalize(torch.stack(classes), dim=-1)
    torch.testing.assert_close(head["classes"], expected, rtol=1e-5, atol=1e-6)
    assert head.keys() == {"classes", "logit_scale"}
    assert head["logit_scale"] == LOGIT_SCALE


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: t.pop("encoder.layer.1.output.dense.bias"), DataError, "encoder.layer.1.output.dense.bias"),
        (lambda t: t["embeddings.LayerNorm.weight"].fill_(float("nan")), NumericalError, "embeddings.LayerNorm.weight"),
        (lambda t: t.update({"embeddings.LayerNorm.bias": torch.ones(31)}), DataError, "(31,)"),
    ],
)
def test_broken_weights_are_named(tmp_path, saved, change, error, words):
    tensors = load_file(saved[0] / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((saved[0] / "config.json").read_text())
    with pytest.raises(error) as caught:
        FAMILY.build(tmp_path, "expert topics")
    assert words in str(caught.value)
    assert "expert topics" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "roberta"}, "model_type is roberta"),
        ({"intermediate_size": None}, "intermediate_size missing"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type relative_key"),
        ({"hidden_act": "swish"}, "hidden_act swish unknown"),
        ({"is_decoder": True}, "decoder"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps is '1e-12'"),
        ({"num_attention_heads": 5}, "cannot be split into num_attention_heads"),
        ({"num_attention_heads": 0}, "num_attention_heads missing, or no size of a model"),
    ],
)
def test_foreign_configs_are_refused(change, words):
    config = {name: value for name, value in (CONFIG | change).items() if value is not None}
    with pytest.raises(DataError, match=words):
        bert_config(config)


def test_a_base_needs_its_tokenizer():
    names = ["config.json", "model.safetensors"]
    assert set(FAMILY.needed(names, base=False, where="")) == set(names)
    assert "tokenizer.json" in FAMILY.needed([*names, "tokenizer.json"], base=True, where="")
    with pytest.raises(DataError, match=r"models/base: there is no tokenizer\.json"):
        FAMILY.needed(names, base=True, where="models/base")


def copied(folder, source, tensors=None, config=None):
    folder.mkdir()
    save_file(load_file(source / "model.safetensors") | (tensors or {}), folder / "model.safetensors")
    written = json.loads((source / "config.json").read_text()) | (config or {})
    (folder / "config.json").write_text(json.dumps(written))
    return folder


def test_an_expert_with_a_task_head_is_like_the_base(saved, tmp_path, caplog):
    head = {"classifier.weight": torch.ones(2, 32), "embeddings.position_ids": torch.arange(24)[None]}
    expert = copied(tmp_path / "expert", saved[0], head)
    FAMILY.check_like(expert, saved[0], "expert news")
    assert "classifier.weight" in caplog.text
    assert "position_ids" not in caplog.text


@pytest.mark.parametrize(
    ("tensors", "config", "words"),
    [
        (
            {"encoder.layer.2.output.dense.weight": torch.ones(2, 2)},
            {},
            'tensor "encoder.layer.2.output.dense.weight" is no part',
        ),
        ({}, {"layer_norm_eps": 1e-12}, "eps is 1e-12, in the base 0.001"),
        ({}, {"hidden_act": "gelu"}, "activation is gelu, in the base gelu_tanh"),
        ({}, {"num_attention_heads": 8}, "heads is 8, in the base 4"),
    ],
)
def test_an_expert_unlike_the_base_is_refused(saved, tmp_path, tensors, config, words):
    with pytest.raises(DataError) as caught:
        FAMILY.check_like(copied(tmp_path / "expert", saved[0], tensors, config), saved[0], "expert news")
    assert words in str(caught.value)
    assert "expert news" in str(caught.value)


def test_an_expert_with_another_tokenizer_is_refused(saved, tmp_path):
    folders = [copied(tmp_path / name, saved[0]) for name in ("base", "expert")]
    for folder, words in zip(folders, (["red", "green"], ["green", "red"]), strict=True):
        write_tokenizer(folder, words)
    with pytest.raises(DataError, match="expert news, tokenizer: token 4 is 'green', in the base's 'red'"):
        FAMILY.check_like(folders[1], folders[0], "expert news")
