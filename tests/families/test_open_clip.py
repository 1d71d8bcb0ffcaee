"""The open_clip family against open_clip itself: names, packing, and the forward pass."""

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from pmqbench.errors import DataError, NumericalError
from pmqbench.families.open_clip import OpenClip, pack, vision_config
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
    with pytest.raises(DataError, match="not a readable safetensors file"):
        FAMILY.build(folder)


def test_foreign_towers_are_refused():
    foreign = config(False)
    foreign["model_cfg"] = foreign["model_cfg"] | {"vision_cfg": VISION | {"timm_model_name": "resnet50"}}
    with pytest.raises(DataError, match="timm_model_name"):
        vision_config(foreign)


def test_pack_keeps_every_name():
    names = list(tower_names(vision_config(config(False))))
    width = VISION["width"]
    tensors = {name: torch.full((width,), float(index)) for index, name in enumerate(names)}
    packed = pack(tensors)
    assert sum(tensor.numel() for tensor in packed.values()) == width * len(names)
