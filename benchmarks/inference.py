"""What an exported model costs to run: `python -m benchmarks.inference [--model vit-l-14] [--bits 3]`.

A model of the real shape with random weights is quantized to nearest, exported, and run by stock transformers: the float32
checkpoint, the export unpacked while it loads (its default), and the export with `dequantize: false`, each in a process
of its own. What the linear layers hold once it runs is looked up in the loaded model, so that no saving is claimed that is not
there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.shapes import ANSWER_TOKENS, MODELS, PROMPT_TOKENS, first_blocks, write_models
from pmqbench.families.base import FAMILIES
from pmqbench.files import read_json, write_json

RUNS = {
    "float32": "float32 checkpoint",
    "unpacked": "export, unpacked while loading",
    "packed": "export, dequantize: false",
}
ROUNDS = 15


def write(options: argparse.Namespace, folder: Path) -> None:
    """The three folders."""
    from pmqbench.quantization.calibrate import quantize_model
    from pmqbench.quantization.export import export_model
    from pmqbench.quantization.methods.rtn import Rtn
    from pmqbench.quantization.packing import save_packed

    family_name, config = MODELS[options.model][0], first_blocks(MODELS[options.model][1], options.blocks)
    family = FAMILIES.get(family_name)()
    write_models(folder, family_name, config, [])
    (folder / "base" / "tokenizer.json").write_text("{}")  # not used here: inputs are token ids
    (folder / "base").rename(folder / "float32")
    grid = {"bits": options.bits, "group_size": options.group_size, "symmetric": True}
    made = quantize_model(family.build(folder / "float32"), Rtn(**grid), {}, {})
    save_packed(folder / "packed.safetensors", made.tensors, made.codes)
    deployed = family.deployed(folder / "float32", folder / "float32")
    for name in ("unpacked", "packed"):
        export_model(folder / name, folder / "packed.safetensors", deployed, grid, "A benchmark's model.")
    path = folder / "packed" / "config.json"
    stored = read_json(path)
    stored["quantization_config"]["dequantize"] = False
    write_json(path, stored)
    write_json(folder / "loader.json", deployed.loader)


def run(folder: Path, name: str, threads: int) -> dict[str, Any]:
    """Loads and runs one of the folders in this process."""
    import psutil
    import torch
    import transformers

    torch.set_num_threads(threads)
    process = psutil.Process()
    before, began = process.memory_info().rss, time.perf_counter()
    model = getattr(transformers, read_json(folder / "loader.json")).from_pretrained(folder / name).eval()
    loaded = time.perf_counter() - began
    one, many = (batch(model.config, count) for count in (1, 32))
    with torch.no_grad():
        forward(model, one)
        resident = process.memory_info().rss - before
        latency = [timed(lambda: forward(model, one)) for _ in range(ROUNDS)]
        throughput = [timed(lambda: forward(model, many)) for _ in range(3)]
    linear = [module for module in model.modules() if type(module).__name__.endswith("Linear")]
    packed = sum(hasattr(module, "weight_packed") for module in linear)
    return {
        "load_s": loaded,
        "resident_mb": resident / 1e6,
        "latency_ms": 1000 * median(latency),
        "per_second": 32 / median(throughput),
        "disk_mb": (folder / name / "model.safetensors").stat().st_size / 1e6,
        "packed": packed,
        "linear": len(linear),
    }


def batch(config: Any, count: int) -> dict[str, Any]:
    """Random inputs."""
    import torch

    if config.model_type == "t5":
        return {"input_ids": torch.randint(3, config.vocab_size, (count, PROMPT_TOKENS))}
    return {"pixel_values": torch.randn(count, 3, config.image_size, config.image_size)}


def forward(model: Any, inputs: dict[str, Any]) -> None:
    """One forward pass, or an answer of a few tokens."""
    if "input_ids" in inputs:
        model.generate(**inputs, min_new_tokens=ANSWER_TOKENS, max_new_tokens=ANSWER_TOKENS, do_sample=False)
    else:
        model(**inputs)


def timed(call: Any) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    """Writes the folders, runs each, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="vit-b-32")
    parser.add_argument("--bits", type=int, choices=(2, 3, 4, 8), default=4)
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--blocks", type=int, help="only so many blocks (all)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (all)")
    parser.add_argument("--worker", nargs=2, metavar=("RUN", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, folder = options.worker[0], Path(options.worker[1])
        if name == "write":
            write(options, folder)
        else:
            sys.stdout.write(json.dumps(run(folder, name, options.threads)) + "\n")
        return
    columns = ("disk_mb", "load_s", "resident_mb", "latency_ms", "per_second")
    sys.stdout.write(f"{options.model}, {options.bits} bits, groups of {options.group_size}, {options.threads} threads\n")
    sys.stdout.write(f"{'':32}{''.join(f'{column:>13}' for column in columns)}  linear layers hold\n")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("write", *RUNS):
            command = [sys.executable, "-m", "benchmarks.inference", *sys.argv[1:], "--worker", name, folder]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode and name != "packed":
                sys.exit(f"{RUNS.get(name, name)} failed:\n{done.stderr[-3000:]}")
            if done.returncode:  # transformers does not run every model that way: a T5 needs its weights unpacked
                sys.stdout.write(f"{RUNS[name]:32}  does not run: {done.stderr.strip().splitlines()[-1]}\n")
            elif name != "write":
                figures = json.loads(done.stdout.splitlines()[-1])
                holds = (
                    "packed weights, unpacked in every forward" if figures["packed"] else "float32 weights: nothing is saved"
                )
                holds = "float32 weights" if name == "float32" else holds
                cells = "".join(f"{figures[column]:13.1f}" for column in columns)
                sys.stdout.write(f"{RUNS[name]:32}{cells}  {holds} ({figures['packed']} of {figures['linear']} packed)\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
