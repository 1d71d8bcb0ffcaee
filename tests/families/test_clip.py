"""The clip family against transformers itself: key layouts, the forward pass, heads, and what is brought in."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModel

from pmqbench.errors import DataError
from pmqbench.families.clip import Clip, vision_config
from pmqbench.files import write_json
from pmqbench.sources.local import LocalFolders
from tests.families.clip_toy import HALF, IMAGES, VISION, normalised, save_open_clip, save_processor, shaken, whole_clip

FAMILY = Clip()


@pytest.fixture(scope="module", params=["quick_gelu", "gelu"])
def expert(request, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("expert")
    model = shaken(CLIPVisionModel(CLIPVisionConfig(**VISION, hidden_act=request.param)))
    model.save_pretrained(folder)
    save_processor(folder)
    return folder, model


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    model, tokenizer = whole_clip()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_processor(folder)
    return folder, model, tokenizer


def test_tower_equals_transformers_forward(expert):
    folder, model = expert
    with torch.no_grad():
        expected = model(pixel_values=normalised(IMAGES, HALF, HALF)).pooler_output
    torch.testing.assert_close(FAMILY.build(folder)(IMAGES), expected, rtol=1e-5, atol=1e-5)


def test_the_older_key_layout_is_the_same_model(expert, tmp_path):
    folder, _ = expert
    tensors = load_file(folder / "model.safetensors")
    assert not any(name.startswith("vision_model.") for name in tensors)
    save_file({f"vision_model.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert torch.equal(FAMILY.build(tmp_path)(IMAGES), FAMILY.build(folder)(IMAGES))


def test_a_whole_clip_gives_its_vision_tower(base):
    folder, model, _ = base
    with torch.no_grad():
        expected = model.vision_model(pixel_values=normalised(IMAGES, HALF, HALF)).pooler_output
    torch.testing.assert_close(FAMILY.build(folder)(IMAGES), expected, rtol=1e-5, atol=1e-5)


def test_what_is_saved_loads_in_transformers(base, tmp_path):
    folder, model, _ = base
    FAMILY.save(tmp_path, dict(FAMILY.checkpoint(folder).items()), folder, {"method": "x"})
    again = CLIPVisionModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        pixels = normalised(IMAGES, HALF, HALF)
        assert torch.equal(again(pixel_values=pixels).pooler_output, model.vision_model(pixel_values=pixels).pooler_output)


def test_linear_shapes_come_from_the_config_alone(expert):
    folder, _ = expert
    tower = FAMILY.build(folder)
    linear = {n: tuple(m.weight.shape) for n, m in tower.named_modules() if isinstance(m, torch.nn.Linear)}
    assert FAMILY.linear_shapes(json.loads((folder / "config.json").read_text())) == linear
    assert FAMILY.linear_shapes({"vision_config": VISION}) == linear


def test_what_a_config_leaves_out_is_transformers_default():
    config, known = vision_config({"model_type": "clip", "vision_config": {}}), CLIPVisionConfig()
    assert (config.width, config.layers, config.heads) == (
        known.hidden_size,
        known.num_hidden_layers,
        known.num_attention_heads,
    )
    assert (config.mlp_width, config.patch_size, config.image_size) == (
        known.intermediate_size,
        known.patch_size,
        known.image_size,
    )
    assert (config.activation, config.eps) == (known.hidden_act, known.layer_norm_eps)


def test_the_preprocessors_constants_count_and_are_kept(expert, tmp_path):
    folder, model = expert
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    write_json(tmp_path / "preprocessor_config.json", {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]})
    FAMILY.save(tmp_path / "merged", dict(FAMILY.checkpoint(tmp_path).items()), tmp_path, {})
    with torch.no_grad():
        expected = model(pixel_values=normalised(IMAGES, [0.5, 0.4, 0.3], [0.2, 0.25, 0.3])).pooler_output
    torch.testing.assert_close(FAMILY.build(tmp_path / "merged")(IMAGES), expected, rtol=1e-5, atol=1e-5)


def test_head_is_the_normalised_mean_of_normalised_prompts(base):
    folder, model, tokenizer = base
    names, templates = ["cat", "forest", "banded"], ["a photo of a {}.", "{}"]
    head = FAMILY.head(folder, names, templates)
    rows = []
    with torch.no_grad():
        for name in names:
            prompts = [tokenizer([template.format(name)], return_tensors="pt") for template in templates]
            features = torch.cat([model.get_text_features(**prompt).pooler_output for prompt in prompts]).double()
            mean = (features / features.norm(dim=1, keepdim=True)).mean(0)
            rows.append(mean / mean.norm())
    torch.testing.assert_close(head["classes"].double(), torch.stack(rows), rtol=1e-5, atol=1e-6)
    assert torch.equal(head["projection"], model.visual_projection.weight)
    assert head["logit_scale"].item() == pytest.approx(model.logit_scale.exp().item())


def test_a_vision_tower_alone_is_no_base(expert, base, tmp_path):
    with pytest.raises(DataError, match=r"is missing.*whole CLIPModel"):
        FAMILY.head(expert[0], ["cat"], ["{}"])
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes((base[0] / name).read_bytes())
    with pytest.raises(DataError, match=r"there is no tokenizer.*tokenizer\.json"):
        FAMILY.head(tmp_path, ["cat"], ["{}"])


def test_shards_are_joined(base, tmp_path):
    folder, model, _ = base
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    save_processor(tmp_path / "sharded")
    names = [path.name for path in (tmp_path / "sharded").iterdir()]
    assert len(names) > 3
    needed = FAMILY.needed(names, base=True, where="x")
    FAMILY.bring({name: tmp_path / "sharded" / name for name in needed}, tmp_path / "model", base=True)
    assert torch.equal(FAMILY.build(tmp_path / "model")(IMAGES), FAMILY.build(folder)(IMAGES))
    (tmp_path / "sharded" / needed[1]).write_bytes((tmp_path / "sharded" / needed[2]).read_bytes())
    with pytest.raises(DataError, match="is in no shard"):
        FAMILY.bring({name: tmp_path / "sharded" / name for name in needed}, tmp_path / "broken", base=True)


def test_open_clip_checkpoints_of_the_same_tower_are_brought_in(tmp_path):
    model = save_open_clip(tmp_path / "user")
    LocalFolders(path=str(tmp_path / "user")).fetch_base(tmp_path / "model", FAMILY, {}, ())
    with torch.no_grad():
        expected = model.encode_image(normalised(IMAGES, HALF, HALF))
        features = FAMILY.build(tmp_path / "model")(IMAGES) @ model.visual.proj
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    head = FAMILY.head(tmp_path / "model", ["cat", "dog"], ["{}"])
    assert torch.equal(head["projection"], model.visual.proj.T)
    assert FAMILY.linear_shapes(json.loads((tmp_path / "user/open_clip_config.json").read_text()))[
        "encoder.layers.0.mlp.fc1"
    ] == (
        48,
        32,
    )


def test_pickles_and_foreign_models_are_refused():
    with pytest.raises(DataError, match=r"no model\.safetensors; pytorch_model\.bin is a pickle"):
        FAMILY.needed(["config.json", "pytorch_model.bin"], base=False, where="x")
    with pytest.raises(DataError, match='model_type "siglip"'):
        vision_config({"model_type": "siglip", "vision_config": {}})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"num_attention_heads": 3}, "width 32 cannot be split into 3 heads"),
        ({"hidden_size": "32"}, "width is '32' instead of a positive whole number"),
        ({"image_size": [16, 32]}, "image_size is [16, 32]"),
        ({"num_channels": 1}, "1 channels"),
        ({"quantization_config": {"bits": 4}}, "quantized already"),
        ({"layer_norm_eps": None}, "eps is None instead of a positive number"),
    ],
)
def test_impossible_configs_are_refused(changed, words):
    with pytest.raises(DataError) as caught:
        vision_config(VISION | changed)
    assert words in str(caught.value)


def test_a_vision_config_that_is_null_is_none():
    assert vision_config(VISION | {"vision_config": None}) == vision_config(VISION)


def test_a_square_may_be_a_pair_of_sides():
    assert vision_config(VISION | {"image_size": [16, 16], "patch_size": [4, 4]}) == vision_config(VISION)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_config_that_is_none_is_named(expert, tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "model.safetensors").write_bytes((expert[0] / "model.safetensors").read_bytes())
    with pytest.raises(DataError, match=r"config\.json: .*JSON"):
        FAMILY.checkpoint(tmp_path)


def test_a_damaged_shard_is_named(base, tmp_path):
    base[1].save_pretrained(tmp_path, max_shard_size="20KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:100])
    save_processor(tmp_path)
    with pytest.raises(DataError, match=f"{shard.name}: not a readable safetensors file"):
        LocalFolders(path=str(tmp_path)).fetch_base(tmp_path / "model", FAMILY, {}, ())


def test_images_of_another_size_are_refused(expert):
    with pytest.raises(DataError, match=r"images are 20 x 20 pixels, the model takes 16 x 16.*image_size"):
        FAMILY.build(expert[0])(torch.zeros(1, 3, 20, 20, dtype=torch.uint8))
