"""What the workflow must know of the mini suite's CLIP before any work, so without torch or open_clip."""

from typing import Any

HELD_OUT_EVERY = 3
"""Labels 2, 5, 8, ... of every task never occur in pre-training."""

OPEN_CLIP_CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 128,
        "quick_gelu": False,
        "vision_cfg": {"image_size": 16, "patch_size": 4, "width": 128, "layers": 4, "head_width": 32, "mlp_ratio": 4.0},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 1},
    },
    # CLIP's own mean and standard deviation of red, green and blue (open_clip.OPENAI_DATASET_MEAN and _STD).
    "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]},
}
"""The model in the layout of open_clip's `open_clip_config.json`."""
