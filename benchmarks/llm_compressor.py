"""llm-compressor's GPTQ on the benchmark's CLIPVisionModel; `benchmarks.quantization` runs it by another environment's Python.

    python benchmarks/llm_compressor.py FOLDER SAMPLES BATCH THREADS

Needs llm-compressor and nothing of this project. Inputs are random pixels of the same number and shape as ours; one grid a row,
4 bits, asymmetric, 0.01 damping, block after block. Writes FOLDER/llm-compressor.json.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import torch
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from torch.utils.data import DataLoader
from transformers import CLIPVisionModel


def main() -> None:
    """Loads, calibrates, writes the figures."""
    folder, samples, batch, threads = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = CLIPVisionModel.from_pretrained(folder / "merged", dtype=torch.float32).eval()
    side = model.config.image_size
    images = [{"pixel_values": torch.randn(3, side, side)} for _ in range(samples)]
    weights = {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "channel"}
    recipe = GPTQModifier(
        config_groups={"group_0": {"targets": ["Linear"], "weights": weights}}, dampening_frac=0.01, actorder=None
    )
    began = time.perf_counter()
    oneshot(
        model=model,
        dataset=DataLoader(images, batch_size=batch),
        recipe=recipe,
        num_calibration_samples=samples,
        pipeline="sequential",
        sequential_targets=["CLIPEncoderLayer"],
    )
    figures = {"seconds": time.perf_counter() - began, "device": model.device.type}
    figures["mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    (folder / "llm-compressor.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
