"""Synthetic but realistic records: the mini suite's pattern, without running it."""

from __future__ import annotations

import io
import re
import zlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from pmqbench.costs import Costs
from pmqbench.files import write_json
from pmqbench.records import Record, pack_outcomes
from pmqbench.reporting.collect import DTYPES, collect_curves, collect_layers, row_of
from pmqbench.reporting.comparisons import compare_all
from pmqbench.reporting.page.contents import read_csv, suite_contents
from pmqbench.reporting.page.details import gather_details
from pmqbench.reporting.page.index import named_files
from pmqbench.reporting.page.render import write_page
from pmqbench.reporting.statistics import summarise
from pmqbench.reporting.tables import write_tables
from pmqbench.reporting.terminal import show
from tests.browser import chromium

TASKS = ["digits", "textures", "signs", "landuse"]
MERGES = {"ta-0.3": 0.62, "ties-0.3": 0.66, "ta-tuned": 0.71}
QUANTIZERS = {"rtn": -0.04, "gptq": -0.01, "awq": -0.02, "epmq": 0.03, "epmq-expert": 0.07}
SEEDED = (0, 1, 2)
NO_COSTS = Costs()
TUNED = "tuned"  # in a merge's name: its scaling was chosen on validation data


def costs_of(merge, quantizer, seed):
    """Merging takes 1.5 s, choosing a scaling 10 s; quantizers take longer the stronger they are."""
    own = 0.5 if quantizer == "rtn" else 2.0 ** list(QUANTIZERS).index(quantizer) + 0.1 * seed if quantizer in QUANTIZERS else 0
    seconds = 1.5 + 10 * (TUNED in merge) + own
    return Costs(seconds, 0 if seed is None else 48, TUNED in merge)


def record(model, kind, task, seed, accuracy, size, n=300, costs=NO_COSTS):
    """The expected accuracy is met by examples of increasing difficulty, so that models agree on most of them."""
    rng = np.random.default_rng(zlib.crc32(f"{model}{task}{seed}".encode()))
    difficulty = np.random.default_rng(zlib.crc32(task.encode())).random(n)
    correct = difficulty + 0.1 * rng.standard_normal(n) < accuracy
    value = float(correct.mean())
    error = float(np.sqrt(value * (1 - value) / n))
    made = {"recipe": {"method": model, "options": {"x": 1}}, "git_commit": "abc", "device": "cpu", "versions": {"torch": "2"}}
    packed, own = pack_outcomes(correct), zlib.crc32(model.encode()) / 2**50  # no two models have one loss
    return Record(
        model,
        kind,
        task,
        seed,
        "accuracy",
        value,
        n,
        error,
        1.5 - value + own,
        packed,
        size,
        0.2,
        300.0,
        made | {"tensors": model},
        costs,
    )


def synthetic_rows(tasks=TASKS, merges=MERGES, quantizers=QUANTIZERS, bits=(3, 4), groups=(None,), n=300):
    """Pairs (record, the suite's names for it)."""

    def row(item, merge=None, quantizer=None, width=32, group=None):
        chosen = "scaling" if TUNED in (merge or "") else ""
        names = {"merge": merge, "quantizer": quantizer, "bits": width, "group_size": group, "chosen": chosen}
        return item, {"path": f"{item.model}/{item.task}.json", **names}

    size = 4_800_000
    offset = dict(zip(tasks, np.linspace(-0.15, 0.15, len(tasks)), strict=True))
    rows = []
    for task in tasks:
        rows.append(row(record("base", "base", task, None, 0.55 + offset[task], size, n)))
        rows.append(row(record(f"expert-{task}", "expert", task, None, 0.9 + offset[task] / 2, size, n)))
        for merge, level in merges.items():
            costs = costs_of(merge, None, None)
            rows.append(row(record(merge, "merged", task, None, level + offset[task], size, n, costs), merge))
            for quantizer, gain in quantizers.items():
                for width in bits:
                    for group in groups:
                        for seed in (None,) if quantizer.startswith("rtn") else SEEDED:
                            accuracy = level + offset[task] + gain - 0.3 * 4.0 ** (1 - width) + (0.01 if group else 0)
                            packed = int(size * (0.3 + 0.7 * width / 32 + (0.5 / group if group else 0)))
                            model = f"{merge}/{quantizer}-{width}-{group}/seed-{seed}"
                            costs = costs_of(merge, quantizer, seed)
                            item = record(model, "quantized", task, seed, accuracy, packed, n, costs)
                            rows.append(row(item, merge, quantizer, width, group))
    return rows


def synthetic_frame(**options) -> pd.DataFrame:
    rows = [row_of("mini", item, names) for item, names in synthetic_rows(**options)]
    return pd.DataFrame(rows, columns=list(DTYPES)).astype(DTYPES)


def layer_records(kind, gain, bits, tasks, blocks=3):
    """Layer records as the layer loop writes them; uncalibrated methods have no deviations."""
    parts = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
    rng = np.random.default_rng(zlib.crc32(f"{kind}{bits}".encode()))
    records = []
    for index in range(blocks * len(parts)):
        block, part = divmod(index, len(parts))
        rounding = 4.0 ** (1 - bits) * (1 + 0.3 * block) * rng.uniform(0.7, 1.4)
        merging = {"final": (0.3 - 2 * gain) * (1 + block) + rounding, "merged": 0.3 * (1 + block), "scale": 2.0}
        known = not kind.startswith("rtn")
        records.append(
            {
                "layer": f"encoder.layers.{block}.{parts[part]}",
                "block": f"encoder.layers.{block}",
                "shape": [192, 192],
                "bits": bits,
                "quantization": {"absolute": rounding, "relative": rounding / 2} if known else None,
                "merging": dict.fromkeys(tasks, merging) if known else None,
                "seconds": 0.1,
                "index": index,
            }
        )
    return records


def write_layers(folder, tasks=TASKS, merges=MERGES, quantizers=QUANTIZERS, bits=(3, 4), blocks=3):
    """Writes layers.json files; returns the rows `collect_layers` takes."""
    rows = []
    for merge in merges:
        for quantizer, gain in quantizers.items():
            for width in bits:
                for seed in (None,) if quantizer.startswith("rtn") else SEEDED:
                    path = folder / f"{merge}-{quantizer}-{width}-{seed}.json"
                    write_json(path, layer_records(f"{quantizer}{seed}", gain, width, tasks, blocks))
                    names = {"merge": merge, "quantizer": quantizer, "bits": width, "group_size": None, "seed": seed}
                    rows.append({"path": path, **names})
    return rows


@pytest.fixture(scope="session")
def layers(tmp_path_factory):
    """`layers(**options)` -> collected layer records."""
    return lambda **options: collect_layers("mini", write_layers(tmp_path_factory.mktemp("layers"), **options))


def curve(start, steps=60, every=20):
    """A loss curve as refinements write it: held-out losses every so many steps, the least at the second last of them."""
    points = []
    for step in range(steps + 1):
        loss = start / (1 + step / 10)
        held_out = 1.1 * loss + (0.3 * start if step == steps else 0)
        known = step % every == 0
        points.append(
            {"step": step, "loss": loss if step else None, "held_out": held_out if known else None, "seconds": step / 8}
        )
    return points


def write_curves(folder, merges=MERGES, quantizers=("distilled",), bits=(2, 4)):
    """Writes curve.json files; returns the rows `collect_curves` takes."""
    rows = []
    for merge in merges:
        for quantizer in quantizers:
            for width in bits:
                for seed in SEEDED:
                    path = folder / f"{merge}-{quantizer}-{width}-{seed}.json"
                    write_json(path, curve((1 + seed / 10) / width))
                    names = {"merge": merge, "quantizer": quantizer, "bits": width, "group_size": None, "chosen": ""}
                    rows.append({"path": path, "seed": seed, **names})
    return rows


@pytest.fixture(scope="session")
def curves(tmp_path_factory):
    """`curves(**options)` -> collected loss curves; `curves(merges=())` is a suite without refinements."""
    return lambda **options: collect_curves("mini", write_curves(tmp_path_factory.mktemp("curves"), **options))


def model_rows(records):
    """What the workflow tells of the records' models: names and files."""
    models = records.drop_duplicates(["model", "merge", "quantizer"])
    names = ("kind", "merge", "quantizer", "bits", "group_size", "seed")
    known = models[list(names)].astype("object").where(models[list(names)].notna(), None).to_dict("records")
    return [
        model | {"folder": f"q/{place}", "records": [f"records/{place}/{task}.json" for task in TASKS], "exported": None}
        for model in known
        for place in [f"{model['merge']}/{model['quantizer']}-{model['bits']}/{model['seed']}"]
    ]


@pytest.fixture(scope="session")
def report(tmp_path_factory, layers, tasks):
    """A report's folder with its page, and what the page was made of."""
    folder = tmp_path_factory.mktemp("report")
    records = synthetic_frame(n=60)
    summary, files = summarise(records, tasks), named_files(model_rows(records))
    warnings = [{"where": "digits", "message": "few examples"}]
    pairs = compare_all(summary, "gptq")
    named = {"csv": "leaderboard.csv", "markdown": "leaderboard.md", "comparisons": "comparisons.csv", "mcnemar": "mcnemar.csv"}
    write_tables(summary, pairs, warnings, **{kind: folder / name for kind, name in named.items()})
    contents = suite_contents(
        "mini",
        read_csv(folder / "leaderboard.csv"),
        summary,
        gather_details(records, layers(), summary, files),
        command=["snakemake", "--cores", "all", "--configfile", "config/mini.yaml", "--"],
        beside=["leaderboard.csv", "plots/", "report.html"],
        warnings=warnings,
        sentence="Said.",
    )
    write_page(folder / "leaderboard.html", contents)
    return SimpleNamespace(folder=folder, summary=summary, files=files, contents=contents, page=folder / "leaderboard.html")


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture
def page(browser, report):
    """The page, just loaded; whatever a test does, nothing is logged or asked for."""
    browser.open(report.page)
    yield browser
    assert browser.complaints() == []
    assert set(browser.requests()) <= {report.page.as_uri(), *blobs(browser)}
    assert report.page.as_uri() in browser.requests()


def blobs(browser):
    return {address for address in browser.requests() if address.startswith("blob:")}


@pytest.fixture(scope="session")
def frame():
    """`frame(**options)` -> collected records; `frame()` is the default suite."""
    return synthetic_frame


@pytest.fixture(scope="session")
def rows():
    return synthetic_rows


@pytest.fixture(scope="session")
def tasks():
    return TASKS


@pytest.fixture(scope="module")
def summary(frame, tasks):
    return summarise(frame(n=100), tasks)


def write_report(folder, summary, warnings=()):
    names = {"csv": "leaderboard.csv", "markdown": "leaderboard.md", "comparisons": "comparisons.csv", "mcnemar": "mcnemar.csv"}
    paths = {key: folder / name for key, name in names.items()}
    write_tables(summary, compare_all(summary, "gptq"), warnings, **paths)
    write_json(folder / "warnings.json", list(warnings))
    return folder


@pytest.fixture
def written(tmp_path, summary):
    return write_report(tmp_path / "mini", summary)


def screen(report, columns=100, every=False):
    """The lines of a terminal of that width."""
    out = io.StringIO()
    show(report, every, Console(file=out, width=columns, force_terminal=True, color_system=None))
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()


def pair(merge, quantizer, verdict, bits="4", group="channel", reference="gptq"):
    names = {"merge": merge, "bits": bits, "group_size": group, "quantizer": quantizer, "reference": reference}
    names["against"] = reference if reference == "full precision" else "reference"
    return names | {"verdict": verdict}
