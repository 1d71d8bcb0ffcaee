"""What a suite asks of its experts: the base's config, preprocessing, tokenizer and projection, and nothing unknown beside."""

import json
import logging
from dataclasses import fields

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, normalizers
from transformers import CLIPProcessor

from pmqbench.checkpoints import Checkpoint, save_checkpoint
from pmqbench.errors import DataError
from pmqbench.families import contract
from pmqbench.families.clip import OPENAI, Clip
from pmqbench.families.open_clip import OpenClip
from pmqbench.families.t5 import T5
from pmqbench.families.t5_config import T5Config
from pmqbench.families.vision_config import VisionConfig
from pmqbench.files import read_json, write_json
from tests.families import t5_toy
from tests.families.clip_toy import HALF, IMAGES, normalised, save_open_clip, save_processor, tuned_tower, whole_clip
from tests.t5.toy import write_tokenizer


def bring(family, source, folder, base):
    """What a model source does with a user's folder."""
    needed = family.needed([path.name for path in source.iterdir()], base=base, where="x")
    family.bring({name: source / name for name in needed}, folder, base=base)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """(folder of a base that normalises with 0.5, its model)."""
    folder = tmp_path_factory.mktemp("clip")
    model, tokenizer = whole_clip()
    model.save_pretrained(folder / "user")
    tokenizer.save_pretrained(folder / "user")
    save_processor(folder / "user")
    return bring(Clip(), folder / "user", folder / "base", base=True), model


@pytest.fixture(scope="module")
def open_clip(tmp_path_factory):
    """(folder of an open_clip base under the open_clip family, the same under the clip family, its model)."""
    folder = tmp_path_factory.mktemp("open_clip")
    model = save_open_clip(folder / "user")
    return (
        *(bring(family, folder / "user", folder / name, True) for family, name in ((OpenClip(), "a"), (Clip(), "b"))),
        model,
    )


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    folder = tmp_path_factory.mktemp("t5")
    t5_toy.save(t5_toy.tiny_t5("gated"), folder / "user", "gated")
    write_tokenizer(folder / "user", ["the film was dull", "is the meal good or bad?", "Rate: the walk is never fun"] * 3, 60)
    return bring(T5(), folder / "user", folder / "base", base=True)


def admitted(family, user, folder, base, label="expert digits"):
    family.admit(bring(family, user, folder, base=False), base, label)
    return folder


def refused(family, user, tmp_path, base):
    with pytest.raises(DataError) as caught:
        admitted(family, user, tmp_path / "expert", base)
    assert "expert digits" in caught.value.where
    assert caught.value.remedy
    return caught.value.what


# --- pixel normalisation


def test_an_expert_without_a_preprocessor_has_the_bases(clip, tmp_path):
    base, model = clip
    tower = tuned_tower(model)
    tower.save_pretrained(tmp_path / "user")
    assert not (tmp_path / "user/preprocessor_config.json").exists()
    expert = admitted(Clip(), tmp_path / "user", tmp_path / "expert", base)
    with torch.no_grad():
        expected = tower(pixel_values=normalised(IMAGES, HALF, HALF)).pooler_output
    torch.testing.assert_close(Clip().build(expert)(IMAGES), expected, rtol=1e-5, atol=1e-5)


def test_nothing_falls_back_on_openais_normalisation(clip, tmp_path):
    tuned_tower(clip[1]).save_pretrained(tmp_path / "user")
    expert = bring(Clip(), tmp_path / "user", tmp_path / "expert", base=False)
    with pytest.raises(DataError, match=r"no preprocessor_config\.json"):
        Clip().build(expert)


def test_an_own_preprocessor_is_brought_in_and_compared(clip, tmp_path):
    base, model = clip
    tuned_tower(model).save_pretrained(tmp_path / "user")
    save_processor(tmp_path / "user")
    admitted(Clip(), tmp_path / "user", tmp_path / "same", base)
    save_processor(tmp_path / "user", mean=OPENAI["mean"])
    assert refused(Clip(), tmp_path / "user", tmp_path, base) == f"mean is {OPENAI['mean']}, in the base {tuple(HALF)}."


def test_the_preprocessor_may_stand_in_a_processors_file(clip, tmp_path):
    """transformers >= 5 writes a whole CLIPProcessor into processor_config.json."""
    from transformers import CLIPImageProcessor

    model, tokenizer = whole_clip()
    for name in ("base", "expert"):
        CLIPProcessor(CLIPImageProcessor(image_mean=[0.5, 0.4, 0.3]), tokenizer).save_pretrained(tmp_path / name)
        assert not (tmp_path / name / "preprocessor_config.json").exists()
    model.save_pretrained(tmp_path / "base")
    base = bring(Clip(), tmp_path / "base", tmp_path / "brought", base=True)
    assert Clip().traits(base)["mean"] == (0.5, 0.4, 0.3)
    tuned_tower(model).save_pretrained(tmp_path / "expert")
    assert "mean is (0.5, 0.4, 0.3), in the base (0.5, 0.5, 0.5)" in refused(
        Clip(), tmp_path / "expert", tmp_path / "x", clip[0]
    )


def test_a_base_without_a_preprocessor_says_what_is_taken(tmp_path, caplog):
    model, _ = whole_clip()
    model.save_pretrained(tmp_path / "user")
    base = bring(Clip(), tmp_path / "user", tmp_path / "base", base=True)
    assert {key: Clip().traits(base)[key] for key in OPENAI} == OPENAI
    assert all((base / name).exists() for name in Clip().model_files)
    (message,) = caplog.messages
    assert "no preprocessor_config.json" in message
    assert "OpenAI" in message


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"resample": 2}, "interpolation is bilinear, in the base bicubic."),
        ({"size": {"height": 16, "width": 16}}, "resize is squash, in the base shortest."),
    ],
)
def test_how_images_are_resized_is_compared(clip, tmp_path, changed, words):
    base, model = clip
    tuned_tower(model).save_pretrained(tmp_path / "user")
    write_json(tmp_path / "user/preprocessor_config.json", read_json(base / "preprocessor_config.json") | changed)
    assert refused(Clip(), tmp_path / "user", tmp_path, base) == words


def test_a_base_that_resizes_otherwise_is_a_warning(tmp_path, caplog):
    preprocess = {"mean": HALF, "std": HALF, "interpolation": "bilinear", "resize_mode": "squash"}
    save_open_clip(tmp_path / "user", preprocess=preprocess)
    for family, name in ((OpenClip(), "a"), (Clip(), "b")):
        caplog.clear()
        bring(family, tmp_path / "user", tmp_path / name, base=True)
        assert "resizes images by bilinear, squash; the images of all tasks are resized by bicubic, shortest" in caplog.text


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"resample": 17}, "resample is 17"),
        ({"image_mean": None}, "image_mean is missing"),
        ({"do_normalize": False}, "do_normalize is off"),
        ({"rescale_factor": 1.0}, "rescale_factor is 1.0"),
        ({"image_std": [0.5, 0.5]}, "std is [0.5, 0.5] instead of three numbers"),
        ({"image_std": [0.5, 0.5, 0]}, "preprocessor_config.json: std is [0.5, 0.5, 0], and pixels are divided by it"),
    ],
)
def test_preprocessors_that_do_something_else_are_refused(clip, tmp_path, changed, words):
    config = read_json(clip[0] / "preprocessor_config.json") | changed
    write_json(tmp_path / "preprocessor_config.json", {key: value for key, value in config.items() if value is not None})
    (tmp_path / "config.json").write_bytes((clip[0] / "config.json").read_bytes())
    with pytest.raises(DataError) as caught:
        Clip().traits(tmp_path)
    assert words in str(caught.value)


def test_every_model_of_a_suite_has_the_side_files(clip, tmp_path):
    base, model = clip
    tuned_tower(model).save_pretrained(tmp_path / "user")
    expert = admitted(Clip(), tmp_path / "user", tmp_path / "expert", base)
    Clip().save(tmp_path / "merged", dict(Clip().checkpoint(expert).items()), base, {})
    for folder in (base, expert, tmp_path / "merged"):
        assert all((folder / name).is_file() for name in Clip().model_files)
        assert Clip().traits(folder)["mean"] == tuple(HALF)


# --- configs


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"hidden_act": "gelu"}, "activation is gelu, in the base quick_gelu"),
        ({"layer_norm_eps": 1e-3}, "eps is 0.001, in the base 1e-05"),
        ({"num_attention_heads": 4}, "heads is 4, in the base 2"),
    ],
)
def test_clip_configs_are_compared(clip, tmp_path, changed, words):
    base, model = clip
    tuned_tower(model, **changed).save_pretrained(tmp_path / "user")
    assert refused(Clip(), tmp_path / "user", tmp_path, base) == f"{words}."


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("quick_gelu", False, "activation is gelu, in the base quick_gelu"),
        ("vision_cfg", {"head_width": 8}, "heads is 4, in the base 2"),
        ("vision_cfg", {"image_size": 20}, "image_size is 20, in the base 16"),
        ("vision_cfg", {"mlp_ratio": 2.0}, "mlp_width is 64, in the base 48"),
    ],
)
@pytest.mark.parametrize("family", [OpenClip(), Clip()], ids=["open_clip", "clip"])
def test_open_clip_configs_are_compared(open_clip, tmp_path, family, key, value, words):
    config = read_json(open_clip[0] / "open_clip_config.json")["model_cfg"]
    changed = config | {key: config[key] | value if isinstance(value, dict) else value}
    save_open_clip(tmp_path / "user", keep="visual.", scale=0.01, model_cfg=changed)
    base = open_clip[0 if isinstance(family, OpenClip) else 1]
    assert refused(family, tmp_path / "user", tmp_path, base) == f"{words}."


def test_open_clip_normalisations_are_compared(open_clip, tmp_path):
    save_open_clip(tmp_path / "user", keep="visual.", preprocess={"mean": HALF, "std": [0.5, 0.5, 0.6]})
    what = refused(OpenClip(), tmp_path / "user", tmp_path, open_clip[0])
    assert what == "std is (0.5, 0.5, 0.6), in the base (0.5, 0.5, 0.5)."


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"feed_forward_proj": "gated-silu"}, "activation is silu, in the base gelu_new"),
        ({"layer_norm_epsilon": 1e-5}, "eps is 1e-05, in the base 1e-06"),
        ({"relative_attention_max_distance": 20}, "max_distance is 20, in the base 10"),
        ({"scale_decoder_outputs": True}, "scaled is True, in the base False"),
        ({"eos_token_id": 2}, "end is 2, in the base 1"),
    ],
)
def test_t5_configs_are_compared(t5, tmp_path, changed, words):
    t5_toy.save(t5_toy.tiny_t5("gated", noise=0.01), tmp_path / "user", "gated")
    config = tmp_path / "user/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changed))
    assert refused(T5(), tmp_path / "user", tmp_path, t5) == f"{words}."


def test_a_tied_head_is_compared(t5, tmp_path):
    t5_toy.save(t5_toy.tiny_t5("gated"), tmp_path / "user", "gated")
    weights = tmp_path / "user/model.safetensors"
    tensors = load_file(weights)
    tensors["lm_head.weight"] = tensors["shared.weight"].clone()
    save_file(tensors, weights)
    config = json.loads((tmp_path / "user/config.json").read_text())
    write_json(tmp_path / "user/config.json", config | {"tie_word_embeddings": True, "scale_decoder_outputs": False})
    assert refused(T5(), tmp_path / "user", tmp_path, t5) == "tied_head is True, in the base False."


def test_every_field_of_a_config_is_a_trait(clip, open_clip, t5):
    for traits, kind in ((Clip().traits(clip[0]), VisionConfig), (OpenClip().traits(open_clip[0]), VisionConfig)):
        assert set(traits) == {field.name for field in fields(kind)}
    assert set(T5().traits(t5)) == {field.name for field in fields(T5Config)} | {"tied_head"}


def test_numbers_rounded_in_a_file_are_the_same():
    contract.compare_traits({"mean": [0.48145466, 0.5]}, {"mean": (0.4814546704, 0.5)}, "expert x")
    with pytest.raises(DataError, match="mean"):
        contract.compare_traits({"mean": [0.4814, 0.5]}, {"mean": (0.4814546704, 0.5)}, "expert x")


# --- tokenizers


def test_an_experts_tokenizer_is_the_bases(t5, tmp_path):
    t5_toy.save(t5_toy.tiny_t5("gated", noise=0.01), tmp_path / "user", "gated")
    own = Tokenizer.from_file(str(t5 / "tokenizer.json"))
    own.enable_truncation(7)  # written differently, the same tokenizer
    own.save(str(tmp_path / "user/tokenizer.json"))
    admitted(T5(), tmp_path / "user", tmp_path / "same", t5)
    own.normalizer = normalizers.Lowercase()
    own.save(str(tmp_path / "user/tokenizer.json"))
    assert "is cut into" in refused(T5(), tmp_path / "user", tmp_path / "lower", t5)
    write_tokenizer(tmp_path / "user", ["another vocabulary of other words"] * 3, 30)
    what = refused(T5(), tmp_path / "user", tmp_path / "other", t5)
    assert "in the base's" in what
    assert what.startswith("token ")


# --- the projection, and what else a whole model holds


def save_whole(model, folder, change):
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_a_tuned_projection_is_refused(clip, tmp_path):
    base, model = clip
    save_whole(model, tmp_path / "user", lambda t: t["visual_projection.weight"].mul_(1.1))
    what = refused(Clip(), tmp_path / "user", tmp_path, base)
    assert what == '"visual_projection.weight" differs from the base\'s, by 0.1 of its norm.'


def test_a_projection_in_half_precision_is_the_bases(clip, tmp_path):
    base, model = clip
    save_whole(model, tmp_path / "user", lambda t: t.update({n: v.half() for n, v in t.items() if v.is_floating_point()}))
    admitted(Clip(), tmp_path / "user", tmp_path / "expert", base)


def test_a_tuned_text_tower_is_a_warning(clip, tmp_path, caplog):
    base, model = clip
    model.save_pretrained(tmp_path / "user")
    admitted(Clip(), tmp_path / "user", tmp_path / "expert", base)
    untuned = "expert digits: its weights are the base's, so it adds nothing to a merge. Was it fine-tuned?"
    assert caplog.messages == [untuned]
    caplog.clear()
    save_whole(model, tmp_path / "other", lambda t: t["text_model.final_layer_norm.bias"].add_(1))
    admitted(Clip(), tmp_path / "other", tmp_path / "second", base)
    message, other = caplog.messages
    assert other == untuned
    assert message.startswith('expert digits: 1 of its tensors (the first is "text_model.final_layer_norm.bias")')


@pytest.mark.parametrize("family", [OpenClip(), Clip()], ids=["open_clip", "clip"])
def test_projection_and_text_tower_of_open_clip(open_clip, tmp_path, caplog, family):
    base = open_clip[0 if isinstance(family, OpenClip) else 1]
    save_open_clip(tmp_path / "same", scale=0.01)
    admitted(family, tmp_path / "same", tmp_path / "1", base)
    assert caplog.messages == []
    save_open_clip(tmp_path / "text", scale=0.01, change=lambda t: t["ln_final.bias"].add_(1))
    admitted(family, tmp_path / "text", tmp_path / "2", base)
    assert ['"ln_final.bias"' in message for message in caplog.messages] == [True]
    save_open_clip(tmp_path / "proj", keep="visual.", change=lambda t: t["visual.proj"].mul_(0.5))
    assert "by 0.5 of its norm" in refused(family, tmp_path / "proj", tmp_path, base)


@pytest.mark.parametrize("family", [OpenClip(), Clip()], ids=["open_clip", "clip"])
def test_unknown_tensors_of_open_clip_are_refused(open_clip, tmp_path, family):
    save_open_clip(tmp_path / "user", keep="visual.", change=lambda t: t.update({"visual.ln_q.weight": torch.ones(3)}))
    base = open_clip[0 if isinstance(family, OpenClip) else 1]
    assert "visual.ln_q.weight" in refused(family, tmp_path / "user", tmp_path, base)


def test_unknown_tensors_are_refused(clip, t5, tmp_path):
    base, model = clip
    save_whole(tuned_tower(model), tmp_path / "clip", lambda t: t.update({"embeddings.position_ids": torch.arange(17)[None]}))
    admitted(Clip(), tmp_path / "clip", tmp_path / "known", base)
    save_whole(tuned_tower(model), tmp_path / "clip", lambda t: t.update({"classifier.weight": torch.ones(3)}))
    assert "classifier.weight" in refused(Clip(), tmp_path / "clip", tmp_path, base)
    t5_toy.save(t5_toy.tiny_t5("gated"), tmp_path / "t5", "gated")
    tensors = load_file(tmp_path / "t5/model.safetensors")
    save_file(tensors | {"decoder.prompt": torch.ones(3)}, tmp_path / "t5/model.safetensors")
    assert "decoder.prompt" in refused(T5(), tmp_path / "t5", tmp_path / "second", t5)


def test_copies_of_t5s_embedding_are_copies(t5, tmp_path):
    t5_toy.save(t5_toy.tiny_t5("gated"), tmp_path / "user", "gated")
    tensors = load_file(tmp_path / "user/model.safetensors")
    copy = {"encoder.embed_tokens.weight": tensors["shared.weight"].clone()}
    save_file(tensors | copy, tmp_path / "user/model.safetensors")
    admitted(T5(), tmp_path / "user", tmp_path / "same", t5)
    save_file(tensors | {name: tensor + 1 for name, tensor in copy.items()}, tmp_path / "user/model.safetensors")
    assert "encoder.embed_tokens.weight" in refused(T5(), tmp_path / "user", tmp_path, t5)


# --- task vectors


def test_an_expert_of_another_base_is_a_warning(clip, tmp_path, caplog):
    base, model = clip
    tuned_tower(model, scale=0.01).save_pretrained(tmp_path / "tuned")
    admitted(Clip(), tmp_path / "tuned", tmp_path / "1", base)
    assert caplog.messages == []
    tuned_tower(whole_clip(seed=5)[0]).save_pretrained(tmp_path / "foreign")
    with caplog.at_level(logging.WARNING):
        admitted(Clip(), tmp_path / "foreign", tmp_path / "2", base)
    (message,) = caplog.messages
    assert "expert digits: its task vector is 1.4" in message


def test_task_vector_ratio_against_plain_float64(tmp_path):
    generator = torch.Generator().manual_seed(0)
    base = {
        "w": torch.randn(4, 5, generator=generator),
        "conv": torch.randn(2, 3, 2, 2, generator=generator),
        "b": torch.ones(3),
    }
    expert = {name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator) for name, tensor in base.items()}
    for name, tensors in (("base", base), ("expert", expert)):
        save_checkpoint(tmp_path / name, tensors)
    delta, norm = (torch.cat([part[name].double().flatten() for name in ("w", "conv")]) for part in (expert, base))
    got = contract.task_vector_ratio(Checkpoint(tmp_path / "expert"), Checkpoint(tmp_path / "base"))
    assert got == pytest.approx(((delta - norm).norm() / norm.norm()).item(), rel=1e-6)
