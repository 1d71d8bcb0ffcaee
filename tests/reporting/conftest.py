"""Synthetic but realistic records: the mini suite's pattern, without running it."""

from __future__ import annotations

import zlib

import numpy as np
import pandas as pd
import pytest

from pmqbench.records import Record, pack_outcomes
from pmqbench.reporting.collect import DTYPES, row_of

TASKS = ["digits", "textures", "signs", "landuse"]
MERGES = {"ta-0.3": 0.62, "ties-0.3": 0.66, "ta-tuned": 0.71}
QUANTIZERS = {"rtn": -0.04, "gptq": -0.01, "awq": -0.02, "epmq": 0.03, "epmq-expert": 0.07}
SEEDED = (0, 1, 2)


def record(model, kind, task, seed, accuracy, size, n=300):
    """The expected accuracy is met by examples of increasing difficulty, so that models agree on most of them."""
    rng = np.random.default_rng(zlib.crc32(f"{model}{task}{seed}".encode()))
    difficulty = np.random.default_rng(zlib.crc32(task.encode())).random(n)
    correct = difficulty + 0.1 * rng.standard_normal(n) < accuracy
    value = float(correct.mean())
    error = float(np.sqrt(value * (1 - value) / n))
    made = {"recipe": {"method": model, "options": {"x": 1}}, "git_commit": "abc", "device": "cpu", "versions": {"torch": "2"}}
    packed = pack_outcomes(correct)
    return Record(model, kind, task, seed, "accuracy", value, n, error, 1.5 - value, packed, size, 0.2, 300.0, made)


def synthetic_rows(tasks=TASKS, merges=MERGES, quantizers=QUANTIZERS, bits=(3, 4), groups=(None,), n=300):
    """Pairs (record, the suite's names for it)."""

    def row(item, merge=None, quantizer=None, width=32, group=None):
        names = {"merge": merge, "quantizer": quantizer, "bits": width, "group_size": group}
        return item, {"path": f"{item.model}/{item.task}.json", **names}

    size = 4_800_000
    offset = dict(zip(tasks, np.linspace(-0.15, 0.15, len(tasks)), strict=True))
    rows = []
    for task in tasks:
        rows.append(row(record("base", "base", task, None, 0.55 + offset[task], size, n)))
        rows.append(row(record(f"expert-{task}", "expert", task, None, 0.9 + offset[task] / 2, size, n)))
        for merge, level in merges.items():
            rows.append(row(record(merge, "merged", task, None, level + offset[task], size, n), merge))
            for quantizer, gain in quantizers.items():
                for width in bits:
                    for group in groups:
                        for seed in (None,) if quantizer.startswith("rtn") else SEEDED:
                            accuracy = level + offset[task] + gain - 0.3 * 4.0 ** (1 - width) + (0.01 if group else 0)
                            packed = int(size * (0.3 + 0.7 * width / 32 + (0.5 / group if group else 0)))
                            model = f"{merge}/{quantizer}-{width}-{group}/seed-{seed}"
                            item = record(model, "quantized", task, seed, accuracy, packed, n)
                            rows.append(row(item, merge, quantizer, width, group))
    return rows


def synthetic_frame(**options) -> pd.DataFrame:
    rows = [row_of("mini", item, names) for item, names in synthetic_rows(**options)]
    return pd.DataFrame(rows, columns=list(DTYPES)).astype(DTYPES)


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
