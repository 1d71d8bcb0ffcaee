"""Training of the mini suite's models: repeatable, held-out classes unseen, and only the vision tower tuned."""

from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file

from pmqbench.checkpoints import save_checkpoint
from pmqbench.families.open_clip import OpenClip, head_of, unpack
from pmqbench.families.open_clip_config import vision_config
from pmqbench.families.vit import VisionTower
from pmqbench.sources import mini_training
from pmqbench.sources.mini import HELD_OUT_EVERY, OPEN_CLIP_CONFIG, MiniModels
from pmqbench.sources.mini_training import BASE, EXPERT, train_base, train_expert
from pmqbench.tasks.definitions import load_task
from pmqbench.tasks.splits import save_split

TASKS = [load_task(name) for name in ("digits", "signs")]
PROMPTS = {task.name: (list(task.classnames), list(task.templates)) for task in TASKS}
SHORT_BASE, SHORT_EXPERT = replace(BASE, steps=3, batch=6), replace(EXPERT, steps=4, batch=24)


def toy_split(task):
    """Flat grey images whose brightness is the label, with a little noise: quick to learn and to check."""
    rng = np.random.default_rng(0)
    labels = np.arange(72) % len(task.classnames)
    images = 20 * labels[:, None, None, None] + rng.integers(0, 10, (72, 3, 16, 16))
    return images.astype(np.uint8), labels.astype(np.int64)


SPLITS = {task.name: toy_split(task) for task in TASKS}


def clip_of(state):
    model = open_clip.CLIP(**OPEN_CLIP_CONFIG["model_cfg"])
    model.load_state_dict(state)
    return model.eval()


def head(state, task):
    model = clip_of(state)
    return head_of(model, open_clip.SimpleTokenizer(context_length=model.context_length), *PROMPTS[task])["classes"]


@pytest.fixture(scope="module")
def base():
    return train_base(SPLITS, PROMPTS, seed=0, threads=1, training=SHORT_BASE)[0]


def tuned(base, seed=0, training=SHORT_EXPERT):
    return train_expert(base, OPEN_CLIP_CONFIG, *SPLITS["digits"], head(base, "digits"), seed, 1, training)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_base_repeats_for_a_seed_and_differs_for_another(base):
    assert equal(base, train_base(SPLITS, PROMPTS, seed=0, threads=1, training=SHORT_BASE)[0])
    assert not equal(base, train_base(SPLITS, PROMPTS, seed=1, threads=1, training=SHORT_BASE)[0])


def test_expert_repeats_for_a_seed_and_differs_for_another(base):
    assert equal(tuned(base), tuned(base))
    assert not equal(tuned(base), tuned(base, seed=1))


def test_training_leaves_torchs_random_state_and_threads_alone():
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    with mini_training.deterministic(seed=5, threads=threads + 1):
        assert torch.get_num_threads() == threads + 1
        first = torch.rand(3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    with mini_training.deterministic(seed=5, threads=threads):
        assert torch.equal(torch.rand(3), first)


def test_expert_is_the_whole_vision_tower_but_its_projection(base):
    expert = tuned(base)
    assert set(expert) == {name for name in base if name.startswith("visual.")} - {"visual.proj"}
    unchanged = [name for name in expert if torch.equal(expert[name], base[name])]
    assert unchanged == []


def test_the_towers_output_is_open_clips(base):
    """What an expert is trained on is what open_clip computes from the same state."""
    images = torch.from_numpy(SPLITS["digits"][0][:4])
    config = vision_config(OPEN_CLIP_CONFIG)
    tower = VisionTower(config)
    tower.load_state_dict(unpack(base, config))
    with torch.no_grad():
        mean, std = (torch.tensor(OPEN_CLIP_CONFIG["preprocess_cfg"][key]).view(3, 1, 1) for key in ("mean", "std"))
        expected = clip_of(base).encode_image((images / 255 - mean) / std)
        torch.testing.assert_close(tower(images) @ base["visual.proj"], expected, rtol=1e-4, atol=1e-5)


def test_expert_learns(base):
    expert = tuned(base, training=replace(EXPERT, steps=40, batch=48))
    images, labels = (torch.from_numpy(part) for part in SPLITS["digits"])
    mean, std = (torch.tensor(OPEN_CLIP_CONFIG["preprocess_cfg"][key]).view(3, 1, 1) for key in ("mean", "std"))

    def accuracy(state):
        with torch.no_grad():
            features = clip_of(state).encode_image((images / 255 - mean) / std)
            return ((features @ head(base, "digits").T).argmax(1) == labels).double().mean().item()

    assert accuracy({**base, **expert}) > accuracy(base) + 0.2


def test_a_third_of_the_classes_never_occurs_in_pre_training(monkeypatch):
    batches = []
    original = mini_training.contrastive_loss

    def spy(model, tokenizer, images, captions, label_smoothing):
        batches.append((images, captions))
        return original(model, tokenizer, images, captions, label_smoothing)

    monkeypatch.setattr(mini_training, "contrastive_loss", spy)
    train_base(SPLITS, PROMPTS, seed=0, threads=1, training=replace(SHORT_BASE, steps=8, batch=30))
    captions = {caption for _, captions in batches for caption in captions}
    for names, templates in PROMPTS.values():
        for label, name in enumerate(names):
            shown = any(template.format(name) in captions for template in templates)
            assert shown == (label % HELD_OUT_EVERY != HELD_OUT_EVERY - 1), name
        assert len(names[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]) in (len(names) // 3, round(len(names) / 3))


def test_images_of_a_batch_belong_to_their_captions():
    seen = {name: mini_training.normalised(split, OPEN_CLIP_CONFIG) for name, split in SPLITS.items()}
    images, captions = mini_training.base_batch(seen, PROMPTS, 5, np.random.default_rng(0))
    mean, std = (torch.tensor(OPEN_CLIP_CONFIG["preprocess_cfg"][key]).view(3, 1, 1) for key in ("mean", "std"))
    brightness = ((images * std + mean) * 255).mean((1, 2, 3))
    for index, (value, caption) in enumerate(zip(brightness.tolist(), captions, strict=True)):
        names, templates = PROMPTS[TASKS[index // 5].name]
        assert caption in [template.format(names[int(value // 20)]) for template in templates]


def test_contrastive_loss_against_plain_float64(base):
    model = clip_of(base)
    tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
    images = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    captions, smoothing = ["one digit", "stop sign", "one digit", "four digit", "stop sign"], 0.2
    distinct = sorted(set(captions))
    with torch.no_grad():
        got = mini_training.contrastive_loss(model, tokenizer, images, captions, smoothing).item()
        vision, text = model.encode_image(images).double().numpy(), model.encode_text(tokenizer(distinct)).double().numpy()
    vision /= np.linalg.norm(vision, axis=1, keepdims=True)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    logits = np.exp(base["logit_scale"].item()) * vision @ text.T
    owned = np.array([[caption == other for other in distinct] for caption in captions], dtype=float)

    def cross_entropy(scores, target):
        target = target / target.sum(1, keepdims=True) * (1 - smoothing) + smoothing / target.shape[1]
        return -(target * (scores - np.log(np.exp(scores).sum(1, keepdims=True)))).sum(1).mean()

    assert got == pytest.approx((cross_entropy(logits, owned) + cross_entropy(logits.T, owned.T)) / 2, rel=1e-5)


def test_token_embeddings_stay_random(base):
    torch.manual_seed(0)
    fresh = open_clip.CLIP(**OPEN_CLIP_CONFIG["model_cfg"])
    assert torch.equal(base["token_embedding.weight"], fresh.token_embedding.weight)
    assert not torch.equal(base["text_projection"], fresh.text_projection)


def test_the_log_tells_which_classes_are_nearest(base, caplog):
    model = clip_of(base)
    with caplog.at_level("INFO"):
        mini_training.log_separation(model, open_clip.SimpleTokenizer(context_length=model.context_length), PROMPTS)
    for task in TASKS:
        classes = head(base, task.name).double().numpy()
        pairs = {(i, j): classes[i] @ classes[j] for i in range(len(classes)) for j in range(i)}
        names = {task.classnames[label] for label in max(pairs, key=pairs.get)}
        (line,) = [line for line in caplog.messages if line.startswith(task.name)]
        assert set(line.removeprefix(f"{task.name}: nearest classes ").split(": ")[0].split(", ")) == names
        assert float(line.split()[-1]) == pytest.approx(max(pairs.values()), abs=1e-3)


def test_captions_fit_the_context_and_names_have_tokens_of_their_own():
    longest = OPEN_CLIP_CONFIG["model_cfg"]["text_cfg"]["context_length"]
    tokenizer = open_clip.SimpleTokenizer(context_length=longest)
    for task in map(load_task, ("digits", "textures", "signs", "landuse")):
        own = [frozenset(tokenizer.encode(name)) for name in task.classnames]
        assert len(set(own)) == len(own) == sum(not any(one & other for other in own if other is not one) for one in own)
        for template in task.templates:
            assert max(len(tokenizer.encode(template.format(name))) for name in task.classnames) <= longest - 2


def test_config_has_clips_normalisation():
    preprocess = OPEN_CLIP_CONFIG["preprocess_cfg"]
    assert (tuple(preprocess["mean"]), tuple(preprocess["std"])) == (
        open_clip.OPENAI_DATASET_MEAN,
        open_clip.OPENAI_DATASET_STD,
    )


def test_source_writes_folders_that_the_family_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(mini_training.train_base, "__defaults__", (SHORT_BASE,))
    monkeypatch.setattr(mini_training.train_expert, "__defaults__", (SHORT_EXPERT,))
    source, family, data = MiniModels(seed=0), OpenClip(), {}
    for task in TASKS:
        data[task.name] = tmp_path / f"{task.name}.safetensors"
        save_split(data[task.name], *SPLITS[task.name], len(task.classnames), task.name)
    source.fetch_base(tmp_path / "base", family, data, TASKS)
    digits = TASKS[0]
    made = family.head(tmp_path / "base", list(digits.classnames), list(digits.templates))
    save_checkpoint(tmp_path / "head.safetensors", made)
    files = tmp_path / "base", data["digits"], tmp_path / "head.safetensors"
    source.fetch_expert(tmp_path / "expert", family, digits, *files)
    base, expert = load_file(tmp_path / "base" / family.weights_file), load_file(tmp_path / "expert" / family.weights_file)
    assert equal(expert, tuned(base))
    names = [set(dict(family.checkpoint(tmp_path / name).items())) for name in ("expert", "base")]
    assert names[0] == names[1]


def test_ids_change_with_what_makes_a_model():
    class Suite:
        family, tasks, base_id = "open_clip", tuple(TASKS), "mini-base-00000000"

    class Smaller(Suite):
        tasks, base_id = tuple(TASKS[:1]), "mini-base-11111111"

    bases = {MiniModels(seed=seed).base_id(suite) for seed in (0, 1) for suite in (Suite, Smaller)}
    experts = {MiniModels(seed=seed).expert_id(suite, task) for seed in (0, 1) for suite in (Suite, Smaller) for task in TASKS}
    assert (len(bases), len(experts)) == (4, 8)
