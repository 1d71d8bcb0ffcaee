"""The open_clip family against open_clip itself: names, packing, and the forward pass."""

from dataclasses import fields
from inspect import signature

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from pmqbench.errors import DataError, NumericalError
from pmqbench.families.open_clip import OpenClip, pack
from pmqbench.families.open_clip_config import MODEL_OFF, MODEL_READ, OFF, READ, TEXT_OFF, WITHOUT_EFFECT, vision_config
from pmqbench.families.vision_config import tower_names
from pmqbench.files import write_json

VISION = {"image_size": 16, "patch_size": 4, "width": 32, "layers": 2, "head_width": 16, "mlp_ratio": 2.0}
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
PREPROCESS = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD)}
FAMILY = OpenClip()


def config(quick_gelu):
    model = {"embed_dim": 24, "quick_gelu": quick_gelu, "vision_cfg": VISION, "text_cfg": TEXT}
    return {"model_cfg": model, "preprocess_cfg": PREPROCESS}


@pytest.fixture(scope="module", params=[False, True], ids=["gelu", "quick_gelu"])
def saved(request, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    model = open_clip.CLIP(**config(request.param)["model_cfg"]).eval()
    for parameter in model.visual.parameters():  # zero-initialised biases would hide a swap
        parameter.data += 0.05 * torch.randn_like(parameter)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / FAMILY.weights_file)
    write_json(folder / FAMILY.config_file, config(request.param))
    return folder, model


def test_tower_equals_open_clips_forward(saved):
    folder, model = saved
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    mean, std = (torch.tensor(PREPROCESS[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = model.encode_image((images / 255 - mean) / std)
        features = FAMILY.build(folder)(images) @ model.visual.proj
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


def test_block_by_block_equals_the_whole(saved):
    tower = FAMILY.build(saved[0])
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    state = tower.embed(images)
    for block in tower.blocks:
        state = tower.run_block(block, state)
    torch.testing.assert_close(tower.finish(state), tower(images), rtol=1e-5, atol=1e-6)


def test_packing_is_exact_and_complete(saved, tmp_path):
    folder, model = saved
    tower = FAMILY.checkpoint(folder)
    FAMILY.save(tmp_path, dict(tower.items()), folder, {})
    packed = load_file(tmp_path / FAMILY.weights_file)
    visual = {f"visual.{name}": tensor for name, tensor in model.visual.state_dict().items() if name != "proj"}
    assert packed.keys() == visual.keys()
    assert all(torch.equal(packed[name], visual[name]) for name in visual)
    again = FAMILY.checkpoint(tmp_path)
    assert all(torch.equal(again.tensor(name), tensor) for name, tensor in tower.items())


def test_groups_cover_every_linear_layer_once(saved):
    tower = FAMILY.build(saved[0])
    linear = [name for name, module in tower.named_modules() if isinstance(module, torch.nn.Linear)]
    grouped = [layer for block in tower.blocks for group in block.groups for layer in group.layers]
    assert sorted(grouped) == sorted(linear)
    shapes = FAMILY.linear_shapes(config(False))
    assert {name: tuple(tower.get_submodule(name).weight.shape) for name in linear} == shapes


def test_head_is_the_normalised_mean_of_normalised_prompts(saved):
    folder, model = saved
    names, templates = ["cat", "dog", "a red bus"], ["a photo of {}.", "{}"]
    head = FAMILY.head(folder, names, templates)
    tokenize = open_clip.SimpleTokenizer(context_length=8)
    with torch.no_grad():
        rows = []
        for name in names:
            embeddings = torch.stack([model.encode_text(tokenize([t.format(name)]))[0] for t in templates])
            mean = (embeddings / embeddings.norm(dim=1, keepdim=True)).mean(0)
            rows.append(mean / mean.norm())
    torch.testing.assert_close(head["classes"], torch.stack(rows), rtol=1e-5, atol=1e-6)
    assert torch.equal(head["projection"], model.visual.proj.T)
    assert head["logit_scale"].item() == pytest.approx(model.logit_scale.exp().item())


def test_only_class_tokens_count_in_the_last_block(saved):
    tower = FAMILY.build(saved[0])
    state = tower.embed(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    first, last = tower.blocks
    assert tower.token_weights(first, first.groups[0].layers[0], state, class_only=True) is None
    q, k, _ = last.groups[0].layers
    assert tower.token_weights(last, k, state, class_only=True) is None
    assert tower.token_weights(last, q, state, class_only=False) is None
    weights = tower.token_weights(last, q, state, class_only=True).view(2, 17)
    assert torch.equal(weights[:, 0], torch.ones(2))
    assert torch.equal(weights[:, 1:], torch.full((2, 16), 0.01))


def broken(saved, tmp_path, change):
    folder, _ = saved
    tensors = load_file(folder / FAMILY.weights_file)
    change(tensors)
    save_file(tensors, tmp_path / FAMILY.weights_file)
    write_json(tmp_path / FAMILY.config_file, config(False))
    return tmp_path


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: t.pop("visual.ln_post.bias"), DataError, "post_layernorm.bias"),
        (lambda t: t["visual.conv1.weight"].fill_(float("nan")), NumericalError, "patch_embedding"),
        (lambda t: t.update({"visual.ln_pre.weight": torch.ones(31)}), DataError, "(31,)"),
    ],
)
def test_broken_weights_are_named(saved, tmp_path, change, error, words):
    with pytest.raises(error) as caught:
        FAMILY.build(broken(saved, tmp_path, change), "expert digits")
    assert words in str(caught.value)
    assert "expert digits" in str(caught.value)


def test_truncated_file_is_named(saved, tmp_path):
    folder = broken(saved, tmp_path, lambda tensors: None)
    whole = (folder / FAMILY.weights_file).read_bytes()
    (folder / FAMILY.weights_file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"not a readable safetensors file.*delete it and run again"):
        FAMILY.build(folder)


def test_a_truncated_file_of_a_user_is_named_by_its_own_path(saved, tmp_path):
    """Not by the link under results/; and nobody is told to delete what the workflow did not write."""
    folder = broken(saved, tmp_path, lambda tensors: None)
    own = tmp_path / "mine.safetensors"
    own.write_bytes((folder / FAMILY.weights_file).read_bytes()[:1000])
    (folder / FAMILY.weights_file).unlink()
    (folder / FAMILY.weights_file).symlink_to(own)
    with pytest.raises(DataError) as caught:
        FAMILY.build(folder)
    assert caught.value.where == str(own)
    assert "delete" not in caught.value.remedy


FOREIGN_VISION = {
    "ls_init_value": 0.0,
    "attentional_pool": "parallel",
    "no_ln_pre": True,
    "pos_embed_type": "sin_cos_2d",
    "final_ln_after_pool": True,
    "pool_type": "avg",
    "act_kwargs": {"approximate": "tanh"},
    "norm_kwargs": {"eps": 1e-6},
    "block_type": "custom",
    "qk_norm": True,
    "scaled_cosine_attn": True,
    "scale_heads": True,
    "scale_attn_inner": True,
    "scale_attn": True,
    "scale_fc": True,
    "timm_model_name": "resnet50",
    "layers": [3, 4, 6, 3],
    "image_mean": [0.5, 0.5, 0.5],
}


def changed(part, values):
    whole = config(False)
    model = whole["model_cfg"]
    return whole | {"model_cfg": model | (values if part == "model_cfg" else {part: model[part] | values})}


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        *(("vision_cfg", key, value) for key, value in FOREIGN_VISION.items()),
        ("model_cfg", "custom_text", True),
        ("model_cfg", "multimodal_cfg", {}),
        ("text_cfg", "hf_tokenizer_name", "bert-base-uncased"),
        ("text_cfg", "hf_model_name", "roberta-base"),
    ],
)
def test_foreign_models_are_refused_by_the_keys_name(part, key, value):
    with pytest.raises(DataError) as caught:
        vision_config(changed(part, {key: value}))
    assert f"{part}.{key} is " in caught.value.what


def test_every_key_that_open_clip_takes_is_known():
    vision = {field.name for field in fields(open_clip.CLIPVisionCfg)}
    assert vision == READ.keys() | OFF.keys() | WITHOUT_EFFECT
    model = set(signature(open_clip.CLIP.__init__).parameters) - {"self", "cast_dtype"}
    assert model == (MODEL_READ | MODEL_OFF.keys()) - {"custom_text"}
    assert TEXT_OFF.keys() <= {field.name for field in fields(open_clip.CLIPTextCfg)}


def test_what_open_clip_writes_as_its_defaults_is_read():
    """A config may name every option: all that are off, and those that only matter in training."""
    off = {key: values[0] for key, values in OFF.items()} | {"patch_dropout": 0.5, "output_tokens": True, "timm_pool": "avg"}
    assert vision_config(changed("vision_cfg", off)) == vision_config(config(False))


@pytest.mark.parametrize("key", READ)
def test_what_a_config_leaves_out_is_open_clips_default(key):
    wide = VISION | {"width": 128}
    left_out = changed("model_cfg", {"vision_cfg": {name: value for name, value in wide.items() if name != key}})
    default = changed("model_cfg", {"vision_cfg": wide | {key: getattr(open_clip.CLIPVisionCfg(), key)}})
    assert vision_config(left_out) == vision_config(default) != vision_config(changed("vision_cfg", wide))


def test_squares_may_be_pairs():
    assert vision_config(changed("vision_cfg", {"image_size": [16, 16], "patch_size": [4, 4]})) == vision_config(config(False))
    with pytest.raises(DataError, match=r"image_size is \[16, 32\]"):
        vision_config(changed("vision_cfg", {"image_size": [16, 32]}))


@pytest.mark.parametrize(
    ("whole", "words"),
    [
        (config(False)["model_cfg"], 'there is no "model_cfg"'),
        ({"model_cfg": config(False)["model_cfg"]}, "there is no preprocess_cfg"),
        (config(False) | {"preprocess_cfg": {"mean": [0.5] * 3}}, "preprocess_cfg has no std"),
        (config(False) | {"preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5]}}, "std is [0.5] instead of three numbers"),
        (config(False) | {"preprocess_cfg": [0.5]}, "preprocess_cfg has no mean and no std"),
        ({"model_cfg": {"embed_dim": 8}, "preprocess_cfg": PREPROCESS}, '"vision_cfg" or "text_cfg" is no object'),
        (changed("vision_cfg", {"width": 35}), "width 35 cannot be split into 2 heads"),
        (changed("vision_cfg", {"width": 8}), "heads is 0"),
        (changed("vision_cfg", {"head_width": 0}), "head_width 0"),
        (changed("vision_cfg", {"width": "32"}), "width '32'"),
    ],
)
def test_incomplete_configs_end_in_a_sentence(whole, words):
    with pytest.raises(DataError) as caught:
        vision_config(whole)
    assert words in caught.value.what
    assert caught.value.remedy


def test_a_text_tower_that_open_clip_cannot_build_is_named(saved, tmp_path):
    folder, _ = saved
    (tmp_path / FAMILY.weights_file).write_bytes((folder / FAMILY.weights_file).read_bytes())
    write_json(tmp_path / FAMILY.config_file, changed("text_cfg", {"widht": 16}))
    with pytest.raises(DataError, match=r"open_clip cannot build this model: .*widht"):
        FAMILY.head(tmp_path, ["cat"], ["{}"])


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda t: t.pop("ln_final.bias"), "ln_final.bias"), (lambda t: t.update({"more": torch.ones(2)}), '"more"')],
)
def test_a_base_that_is_no_whole_clip_is_named(saved, tmp_path, change, words):
    with pytest.raises(DataError, match=words):
        FAMILY.head(broken(saved, tmp_path, change), ["cat"], ["{}"])


def test_pack_keeps_every_name():
    names = list(tower_names(vision_config(config(False))))
    width = VISION["width"]
    tensors = {name: torch.full((width,), float(index)) for index, name in enumerate(names)}
    packed = pack(tensors)
    assert sum(tensor.numel() for tensor in packed.values()) == width * len(names)
