"""Tiny CLIPs of the real classes on disk, as users bring them."""

import open_clip
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPVisionConfig, CLIPVisionModel

from pmqbench.files import write_json
from tests.hub.content import trained_tokenizer

VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
HALF = [0.5, 0.5, 0.5]
OPEN_VISION = {"image_size": 16, "patch_size": 4, "width": 32, "layers": 2, "head_width": 16, "mlp_ratio": 1.5}
OPEN_TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
IMAGES = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def shaken(model, scale=0.05):
    """Random biases too: zeros would hide a swap."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn_like(parameter)
    return model.eval()


def normalised(images, mean, std):
    """float32 images (n, 3, h, w) as a model takes them."""
    return (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def whole_clip(seed=1, vision=VISION):
    """A random CLIPModel and its tokenizer."""
    torch.manual_seed(seed)
    tokenizer = trained_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 20, "eos_token_id": tokenizer.eos_token_id}
    return shaken(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))), tokenizer


def save_processor(folder, mean=HALF, std=HALF):
    """A preprocessor_config.json as transformers writes it."""
    size = VISION["image_size"]
    CLIPImageProcessor(
        image_mean=mean, image_std=std, size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    ).save_pretrained(folder)


def tuned_tower(model, scale=0.01, seed=7, **changed):
    """A CLIPVisionModel near the vision tower of `model`, its config changed."""
    tower = CLIPVisionModel(CLIPVisionConfig(**VISION | changed))
    state = model.vision_model.state_dict()
    tower.load_state_dict({name: state[name.removeprefix("vision_model.")] for name in tower.state_dict()})
    torch.manual_seed(seed)
    return shaken(tower, scale)


def save_open_clip(folder, seed=2, keep="", change=None, scale=0.0, model_cfg=None, preprocess=None):
    """A random open_clip model on disk: the tensors whose names begin with `keep`, moved by `scale`, changed by `change`."""
    config = {"embed_dim": 24, "quick_gelu": True, "vision_cfg": OPEN_VISION, "text_cfg": OPEN_TEXT}
    torch.manual_seed(seed)
    model = shaken(open_clip.CLIP(**config))
    state = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    torch.manual_seed(seed + 100)
    for name, tensor in state.items():
        if name.startswith("visual.") and name != "visual.proj":
            tensor += scale * torch.randn_like(tensor)
    state = {name: tensor for name, tensor in state.items() if name.startswith(keep)}
    if change:
        change(state)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "open_clip_model.safetensors")
    pixels = {"mean": HALF, "std": HALF} if preprocess is None else preprocess
    write_json(folder / "open_clip_config.json", {"model_cfg": model_cfg or config, "preprocess_cfg": pixels})
    return model
