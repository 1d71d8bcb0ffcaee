"""Where E-PMQ's time goes, against the floor that its sums need and against other ways: `python -m benchmarks.quantization`.

Models have the suites' real shapes (`--model`), random weights and inputs. Every run has a process of its own, one after the
other, and measures the machine's matrix rate before and after itself: floor = (moments + two forwards) at the float32 rate +
factorisations at the float64 rate. Ratios of one call compare; seconds of two calls on a shared machine do not.

    python -m benchmarks.quantization --against featcal reference           # B/32, 8 experts, 256 samples each
    python -m benchmarks.quantization --model vit-l-14 --experts 20 --blocks 1
    python -m benchmarks.quantization --blocks 1 --methods qronos 'gptq descent_passes=3 refit_scales=true'
    python -m benchmarks.quantization --solver                              # one layer of 768 x 3072
    python -m benchmarks.quantization --against llm-compressor --llm-compressor-python /venv/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.clock import Clock, synchronise, watch_stages
from benchmarks.shapes import MODELS, experts, first_blocks, inputs, merge_models, write_models
from pmqbench.families.base import FAMILIES
from pmqbench.files import read_json, write_json
from pmqbench.options import build_options
from pmqbench.provenance import peak_memory_mb
from pmqbench.quantization.base import QUANTIZERS, Quantizer

RUNS = {
    "epmq": "E-PMQ",
    "gptq": "GPTQ",
    "mixed": "mixed bits of GPTQ",
    "autoround": "AutoRound towards the experts",
    "featcal": "FeatCal's style, no rounding",
    "reference": "GPTQ, reference loop",
    "llm-compressor": "GPTQ, llm-compressor",
}
ORDER = 2048  # of the matrices that measure the machine's rate


def matrix_rates(device: str) -> dict[str, float]:
    """FLOP/s of square products in float32 and float64, each the best of five."""
    import torch

    rates = {}
    for dtype in (torch.float32, torch.float64):
        matrix = torch.randn(ORDER, ORDER, dtype=dtype, device=device)
        seconds = []
        for _ in range(5):
            synchronise()
            began = time.perf_counter()
            torch.mm(matrix, matrix)
            synchronise()
            seconds.append(time.perf_counter() - began)
        rates[str(dtype).removeprefix("torch.")] = 2 * ORDER**3 / min(seconds)
    return rates


def work(model: Any, tokens: dict[str, int], tasks: int) -> dict[str, float]:
    """FLOP that a run needs: one forward through the linear layers, full moments of each shared input, cross terms, solves."""
    flop: dict[str, float] = defaultdict(float)
    for block in model.blocks:
        for group in block.groups:
            modules = [model.get_submodule(name) for name in group.layers]
            width, outputs = modules[0].in_features, sum(module.out_features for module in modules)
            seen = tokens["encoder" if reads_encoder(group.layers[0]) else "decoder"]
            flop["forward"] += 2 * seen * width * outputs
            flop["moments"] += 2 * seen * width**2
            flop["experts' cross terms"] += 2 * tasks * outputs * width**2
            flop["factorise"] += 4 * width**3 / 3
            flop["target"] += 4 * outputs * width**2
            flop["solve"] += outputs * width**2
            flop["records"] += 8 * outputs * width**2
    return dict(flop)


def reads_encoder(layer: str) -> bool:
    """Whether a layer's tokens are the encoder's (a vision tower has no others)."""
    return not layer.startswith("decoder.") or layer.endswith(("EncDecAttention.k", "EncDecAttention.v"))


def run(options: argparse.Namespace, name: str, folder: Path) -> dict[str, Any]:
    """One run in this process; what it took."""
    from pmqbench.quantization.calibrate import quantize_model
    from pmqbench.torch_setup import start_torch

    device, method = start_torch(options.threads), None
    family_name, config = MODELS[options.model][0], first_blocks(MODELS[options.model][1], options.blocks)
    family, tasks = FAMILIES.get(family_name)(), task_names(options)
    calibration = {task: inputs(family_name, config, options.samples, options.batch, seed) for seed, task in enumerate(tasks)}
    model, given = family.build(folder / "merged").to(device), experts(folder, family_name, tasks, device)
    rates, clock = [matrix_rates(device)], Clock()
    began = time.perf_counter()
    if name == "featcal":
        from benchmarks.baselines import featcal_style

        featcal_style(model, calibration, given)
    elif name == "reference":
        from benchmarks.baselines import reference_gptq

        reference_gptq(model, calibration)
    else:
        from pmqbench.quantization.packing import save_packed

        watch_stages(clock)
        method = parsed_method(name, options.samples)
        with clock.stage("rest"):
            quantized = quantize_model(model, method, calibration, given)
        with clock.stage("write"):
            family.save(folder / name, quantized.tensors, folder, {})
            save_packed(folder / name / "packed.safetensors", quantized.tensors, quantized.codes)
    synchronise()
    seconds = time.perf_counter() - began
    rates.append(matrix_rates(device))
    return {
        "seconds": seconds,
        "mb": peak_memory_mb(),
        "device": device,
        "stages": dict(clock.seconds),
        "rates": {dtype: median(rate[dtype] for rate in rates) for dtype in rates[0]},
        "work": work(model, token_counts(model, calibration), len(tasks) if taught(method) else 0),
    }


def parsed_method(text: str, samples: int) -> Quantizer:
    """The method of "NAME option=value ...", values in JSON (text without quotes); ConfigError for options it does not have."""
    name, *given = text.split()
    options = {key: parsed_value(value) for key, _, value in (part.partition("=") for part in given)}
    drawn = {"calibration_samples": samples} if QUANTIZERS.get(name).calibrated else {}
    return build_options(QUANTIZERS, name, drawn | options, text)


def parsed_value(text: str) -> Any:
    """A JSON value, or the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def taught(method: Quantizer | None) -> bool:
    """Whether cross moments with a teacher are collected for a method."""
    sampling = method.sampling() if method else None
    return sampling is not None and sampling.teacher is not None


def token_counts(model: Any, calibration: dict[str, list[Any]]) -> dict[str, int]:
    """Tokens of all calibration samples, in a T5's two stacks or a tower."""
    states = [model.embed(batch) for batch in (batches[0] for batches in calibration.values())]
    samples = {
        task: sum(len(next(iter(b.values())) if isinstance(b, dict) else b) for b in calibration[task]) for task in calibration
    }
    if isinstance(states[0], dict):
        return {stack: sum(samples.values()) * states[0][stack].shape[1] for stack in ("encoder", "decoder")}
    return {"encoder": sum(samples.values()) * states[0].shape[1]}


def task_names(options: argparse.Namespace) -> list[str]:
    """Names of the synthetic tasks."""
    return [f"task{index}" for index in range(options.experts)]


def table(options: argparse.Namespace, name: str, figures: dict[str, Any], floor: float) -> str:
    """A run's lines: every stage with its share of the needed FLOP, and the whole against the floor."""
    lines = [f"\n{RUNS.get(name, name)}: {figures['seconds']:.1f} s, {figures['mb'] / 1000:.2f} GB peak, {figures['device']}"]
    if rates := figures.get("rates"):
        lines.append(f"  matrix rate {rates['float32'] / 1e9:.0f} GFLOP/s (float32), {rates['float64'] / 1e9:.0f} (float64)")
    for stage, seconds in sorted(figures.get("stages", {}).items(), key=lambda item: -item[1]):
        flop = figures["work"].get(stage, 0.0)
        rate = f"{flop / 1e12:8.2f} TFLOP {flop / seconds / 1e9:8.0f} GFLOP/s" if flop else ""
        lines.append(f"  {stage:40} {seconds:8.2f} s {rate}")
    lines.append(f"  floor (moments + 2 forwards + factorisations) {floor:.1f} s; ratio {figures['seconds'] / floor:.2f}")
    return "\n".join(lines)


def floor_of(figures: dict[str, Any]) -> float:
    """Seconds that moments, two forwards and the factorisations take at the machine's rate."""
    flop, rates = figures["work"], figures["rates"]
    return (flop["moments"] + 2 * flop["forward"]) / rates["float32"] + flop["factorise"] / rates["float64"]


def compare_solvers(threads: int) -> str:
    """Ours and the reference repository's solver on one layer of 768 x 3072, in turn; medians."""
    import torch

    from benchmarks.baselines import reference_columns, reference_factor
    from pmqbench.quantization.descent import descended, refitted, row_losses
    from pmqbench.quantization.grid import LayerCodes, fit_grid
    from pmqbench.quantization.metric import factorise
    from pmqbench.quantization.solvers import gptq
    from pmqbench.torch_setup import start_torch

    device = start_torch(threads)
    torch.manual_seed(0)
    x = torch.randn(8000, 3072, device=device)
    second, weight = x.T @ x / len(x), torch.randn(768, 3072, device=device)
    metric, grid, upper = factorise(second, 0.01, where="layer"), fit_grid(weight, 4), reference_factor(second.clone())
    parts: dict[str, Callable[[], Any]] = {
        "ours, factorisation": lambda: factorise(second, 0.01, where="layer"),
        "reference, factorisation": lambda: reference_factor(second.clone()),
        "ours, columns": lambda: gptq(weight, metric, grid),
        "reference, columns": lambda: reference_columns(weight, upper),
        "a pass of descent": lambda: descended(codes, weight, metric),
        "refitted scales": lambda: refitted(codes, weight, metric),
        "J of each row": lambda: row_losses(codes, weight, metric),
    }
    codes = LayerCodes.of(grid, gptq(weight, metric, grid))
    taken: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(6):
        for name, part in parts.items():
            synchronise()
            began = time.perf_counter()
            part()
            synchronise()
            taken[name].append(time.perf_counter() - began)
    middle = {name: median(seconds[1:]) for name, seconds in taken.items()}
    same = (grid.decode(gptq(weight, metric, grid)) == reference_columns(weight, upper)).double().mean()
    lines = [f"solver, 768 x 3072, {device}; {100 * float(same):.2f} % of weights equal"]
    lines += [f"  {name:26} {seconds:8.3f} s" for name, seconds in middle.items()]
    whole = {who: middle[f"{who}, factorisation"] + middle[f"{who}, columns"] for who in ("ours", "reference")}
    columns = middle["reference, columns"] / middle["ours, columns"]
    lines.append(f"  reference / ours: columns {columns:.2f}, whole {whole['reference'] / whole['ours']:.2f}")
    return "\n".join(lines)


def main() -> None:
    """Runs what was asked for and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="vit-b-32")
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--samples", type=int, default=256, help="calibration samples a task (256)")
    parser.add_argument("--batch", type=int, default=32, help="samples per forward pass (32)")
    parser.add_argument("--blocks", type=int, help="only so many blocks (all)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (all)")
    parser.add_argument("--against", nargs="*", choices=[name for name in RUNS if name != "epmq"], default=[])
    parser.add_argument("--methods", nargs="*", default=[], help="further methods, each as 'NAME option=value ...'")
    parser.add_argument("--llm-compressor-python", default="", help="Python of an environment that has llm-compressor")
    parser.add_argument("--solver", action="store_true", help="compare the solvers of one layer alone")
    parser.add_argument("--worker", nargs=2, metavar=("RUN", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if "llm-compressor" in options.against and not options.llm_compressor_python:
        parser.error("--against llm-compressor needs --llm-compressor-python, the Python of an environment that has it")
    if options.solver:
        sys.stdout.write(compare_solvers(options.threads) + "\n")
        return
    if options.worker:
        name, folder = options.worker[0], Path(options.worker[1])
        if name == "write":
            family, config = MODELS[options.model]
            write_models(folder, family, first_blocks(config, options.blocks), task_names(options))
            merge_models(folder, family, task_names(options))
        else:
            write_json(folder / f"{name}.json", run(options, name, folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        worker(["-m", "benchmarks.quantization", *sys.argv[1:], "--worker", "write", folder])
        floor, ours = 0.0, 0.0
        for name in ("epmq", *options.against, *options.methods):
            if name == "llm-compressor":
                script = [options.llm_compressor_python, str(Path(__file__).with_name("llm_compressor.py"))]
                subprocess.run(
                    [*script, folder, *map(str, (options.experts * options.samples, options.batch, options.threads))],
                    check=True,
                    stdout=sys.stderr,
                )
                figures = read_json(Path(folder) / f"{name}.json")
            else:
                worker(["-m", "benchmarks.quantization", *sys.argv[1:], "--worker", name, folder])
                figures = read_json(Path(folder) / f"{name}.json")
            floor, ours = (floor_of(figures), figures["seconds"]) if name == "epmq" else (floor, ours)
            sys.stdout.write(table(options, name, figures, floor) + "\n")
            if name != "epmq":
                sys.stdout.write(f"  E-PMQ / this: {ours / figures['seconds']:.2f}\n")
            sys.stdout.flush()


def worker(arguments: list[str]) -> None:
    """One run in a process of its own."""
    subprocess.run([sys.executable, *arguments], check=True)


if __name__ == "__main__":
    main()
