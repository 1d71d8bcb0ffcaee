"""Fixtures: small quantized models of every family with experts and calibration batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pmqbench.families.bert import BertFamily
from pmqbench.families.t5 import T5
from pmqbench.quantization.problem import Expert
from tests.families import bert_toy, t5_toy
from tests.refinement.towers import Case, make_towers


@pytest.fixture(scope="session")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Vision towers of two tasks."""
    return make_towers(tmp_path_factory.mktemp("towers"), "ab")


def on_disk(family: Any, folder: Path, save: Callable[[Path, float], None], calibration: dict[str, list[Any]]) -> Case:
    """A case of models that `save` writes with so much noise."""
    for i, name in enumerate(("merged", *calibration)):
        save(folder / name, 0.05 * i)
    experts = {t: Expert(t, family.checkpoint(folder / t), lambda t=t: family.build(folder / t)) for t in calibration}
    return Case(family.build(folder / "merged"), experts, calibration)


@pytest.fixture(scope="session")
def berts(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Sentence encoders; texts with padding."""
    lengths = [[9, 4, 7, 3, 5, 12] * 2, [5, 8, 6, 6] * 3]
    batches = {task: [bert_toy.batch(rows, seed=i + 5 * n) for i, rows in enumerate(lengths)] for n, task in enumerate("ab")}

    def save(folder: Path, noise: float) -> None:
        bert_toy.tiny_bert(noise=noise).save_pretrained(folder)

    return on_disk(BertFamily(), tmp_path_factory.mktemp("berts"), save, batches)


@pytest.fixture(scope="session")
def t5s(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Encoder-decoders; prompts and answers with padding."""
    lengths = [([9, 4, 7, 3, 8, 12] * 2, [2, 3, 1, 1, 2, 5] * 2), ([5, 8, 6] * 4, [2, 1, 4] * 4)]
    batches = {task: [t5_toy.batch(*rows, seed=i + 5 * n) for i, rows in enumerate(lengths)] for n, task in enumerate("ab")}

    def save(folder: Path, noise: float) -> None:
        t5_toy.save(t5_toy.tiny_t5("gated", noise=noise), folder, "gated")

    return on_disk(T5(), tmp_path_factory.mktemp("t5s"), save, batches)


@pytest.fixture(scope="session")
def cases(towers: Case, berts: Case, t5s: Case) -> dict[str, Case]:
    """All of them, by family."""
    return {"clip": towers, "bert": berts, "t5": t5s}
