"""Seconds and peak memory of merging and quantizing at the real size: `python benchmarks/full_shape.py [--model vit-l-14]`.

Two experts of random weights go through Task Arithmetic, GPTQ and E-PMQ on synthetic inputs; shapes are those of the suites'
models, and so are time and memory. Every stage runs in a process of its own, so that its peak is its own; the
parent stays small and imports no torch, since a child's peak begins at its parent's size.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from pmqbench.errors import PMQError
from pmqbench.families.base import FAMILIES
from pmqbench.files import read_json, write_json
from pmqbench.records import peak_memory_mb

if TYPE_CHECKING:
    from torch import Tensor

TASKS = ("first", "second")
STAGES = {"write": "base and two experts", "merge": "Task Arithmetic 0.3", "gptq": "GPTQ, 4 bits", "epmq": "E-PMQ, 4 bits"}
NORMAL = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
PROMPT_TOKENS, ANSWER_TOKENS = 64, 4  # FLAN-T5: of a GLUE prompt, and of an answer


def clip(width: int, layers: int, patch_size: int) -> dict[str, Any]:
    """Config of an OpenAI CLIP's vision tower in open_clip's layout."""
    vision = {"image_size": 224, "patch_size": patch_size, "width": width, "layers": layers}
    return {"model_cfg": {"quick_gelu": True, "vision_cfg": vision}, "preprocess_cfg": NORMAL}


FLAN_T5_BASE = {
    "model_type": "t5",
    "vocab_size": 32128,
    "d_model": 768,
    "d_kv": 64,
    "d_ff": 2048,
    "num_heads": 12,
    "num_layers": 12,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}
MODELS = {
    "vit-b-32": ("open_clip", clip(768, 12, 32)),
    "vit-l-14": ("open_clip", clip(1024, 24, 14)),
    "flan-t5-base": ("t5", FLAN_T5_BASE),
}


def shapes(family: str, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the model, by canonical name."""
    if family == "t5":
        from pmqbench.families.t5_config import t5_config

        return t5_config(config).shapes(own_head=True)
    import torch

    from pmqbench.families.open_clip import vision_config
    from pmqbench.families.vit import VisionTower

    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in VisionTower(vision_config(config)).state_dict().items()}


def inputs(family: str, config: Mapping[str, Any], samples: int, batch: int, seed: int) -> list[Any]:
    """Batches of random images or token ids, as the family's models take them."""
    import torch

    torch.manual_seed(seed)
    sizes = [min(batch, samples - start) for start in range(0, samples, batch)]
    if family == "t5":
        return [tokens(size, config["vocab_size"]) for size in sizes]
    side = config["model_cfg"]["vision_cfg"]["image_size"]
    return [torch.randint(256, (size, 3, side, side), dtype=torch.uint8) for size in sizes]


def tokens(size: int, vocabulary: int) -> dict[str, Tensor]:
    """A batch of prompts and answers, without padding."""
    import torch

    batch = {}
    for prefix, length in (("", PROMPT_TOKENS), ("decoder_", ANSWER_TOKENS)):
        batch[f"{prefix}input_ids"] = torch.randint(3, vocabulary, (size, length))
        batch[f"{prefix}attention_mask"] = torch.ones(size, length, dtype=torch.long)
    return batch


def random_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """Norms are 1, biases 0; all else keeps the size of what goes through it."""
    import torch

    if len(shape) == 1:
        return torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)
    return torch.randn(shape) * (0.02 if "embedding" in name or "shared" in name else shape[1:].numel() ** -0.5)


def write(job: Job) -> None:
    """Base and experts of random weights, an expert being the base and a twentieth of noise."""
    import torch

    torch.manual_seed(0)
    base = {name: random_tensor(name, torch.Size(shape)) for name, shape in shapes(job.family_name, job.config).items()}
    logging.info("%d parameters", sum(tensor.numel() for tensor in base.values()))
    write_json(job.folder / job.family.config_file, job.config)
    job.family.save(job.folder / "base", base, job.folder, {})
    for task in TASKS:
        expert = {name: tensor + 0.05 * tensor.std() * torch.randn_like(tensor) for name, tensor in base.items()}
        job.family.save(job.folder / task, expert, job.folder, {})


def merge(job: Job) -> None:
    """Task Arithmetic of the two experts."""
    from pmqbench.merging.engine import merge as merge_towers
    from pmqbench.merging.task_arithmetic import TaskArithmetic

    towers = [job.family.tower(job.folder / task, f"expert {task}") for task in TASKS]
    merged = merge_towers(TaskArithmetic(scaling=0.3), job.family.tower(job.folder / "base", "base"), towers)
    job.family.save(job.folder / "merged", merged, job.folder, {})


def quantize(method_name: str) -> Callable[[Job], None]:
    """A stage that quantizes the merged model; each block's line in the log is the progress."""

    def stage(job: Job) -> None:
        from pmqbench.quantization.base import QUANTIZERS
        from pmqbench.quantization.calibrate import Expert, quantize_model
        from pmqbench.quantization.storage import save_codes

        family, device = job.family, job.device
        calibration = {
            task: inputs(job.family_name, job.config, job.samples, job.batch, seed) for seed, task in enumerate(TASKS)
        }
        experts = {
            task: Expert(
                f"expert {task}", family.tower(job.folder / task), lambda t=task: family.build(job.folder / t).to(device)
            )
            for task in TASKS
        }
        model = family.build(job.folder / "merged", "merged model").to(device)
        method = QUANTIZERS.get(method_name)(calibration_samples=job.samples)
        quantized = quantize_model(model, method, calibration, experts, progress=False)
        family.save(job.folder / method_name, quantized.tensors, job.folder, {})
        save_codes(job.folder / method_name / "codes.safetensors", quantized.codes)

    return stage


class Job:
    """One stage in a process of its own."""

    def __init__(self, model: str, folder: Path, samples: int, batch: int, threads: int) -> None:
        from pmqbench.jobs import start_torch

        self.family_name, self.config = MODELS[model]
        self.family = FAMILIES.get(self.family_name)()
        self.folder, self.samples, self.batch = folder, samples, batch
        self.device = start_torch(threads)

    def run(self, stage: str) -> None:
        """Runs a stage and writes its figures; CPU seconds, summed over threads, tell of a machine that had other work."""
        began, used = time.perf_counter(), time.process_time()
        {"write": write, "merge": merge, "gptq": quantize("gptq"), "epmq": quantize("epmq")}[stage](self)
        figures = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - used, "mb": peak_memory_mb()}
        figures |= {"device": self.device, "device_mb": 0.0}
        if self.device == "cuda":
            import torch

            figures["device_mb"] = torch.cuda.max_memory_allocated() / 1e6
        write_json(self.folder / f"{stage}.json", figures)


def main() -> None:
    """Runs all stages one after the other and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="vit-b-32")
    parser.add_argument("--samples", type=int, default=256, help="calibration samples a task (256)")
    parser.add_argument("--batch", type=int, default=64, help="samples per forward pass (64)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (all)")
    parser.add_argument("--worker", nargs=2, metavar=("STAGE", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        logging.basicConfig(level=logging.INFO, format="  %(asctime)s %(message)s", datefmt="%H:%M:%S")
        Job(args.model, Path(args.worker[1]), args.samples, args.batch, args.threads).run(args.worker[0])
        return
    try:
        FAMILIES.get(MODELS[args.model][0])
    except PMQError as error:
        sys.exit(f"{args.model} cannot be measured: {error}")
    options = [
        "--model",
        args.model,
        "--samples",
        str(args.samples),
        "--batch",
        str(args.batch),
        "--threads",
        str(args.threads),
    ]
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for stage, what in STAGES.items():
            sys.stderr.write(f"{args.model}: {what}\n")
            subprocess.run([sys.executable, __file__, *options, "--worker", stage, folder], check=True)
            figures = read_json(Path(folder) / f"{stage}.json")
            lines.append(
                f"{what:22} {figures['seconds']:9.1f} {figures['cpu']:9.1f} {figures['mb']:9.0f} {figures['device_mb']:9.0f}\n"
            )
    sys.stdout.write(f"{args.model}, {args.samples} samples a task, {args.threads} threads, {figures['device']}\n")
    sys.stdout.write(f"{'stage':22} {'seconds':>9} {'CPU s':>9} {'peak MB':>9} {'GPU MB':>9}\n" + "".join(lines))


if __name__ == "__main__":
    main()
