"""Evaluation and whole jobs on a GPU."""

import copy

import pytest
import torch

from pmqbench.evaluation.protocols.zero_shot import classify
from pmqbench.files import read_json

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("family", ["clip", "bert"])
def test_answers_are_the_cpus(cases, family, device):
    model, batches = cases[family].merged, cases[family].calibration["a"]
    features = torch.cat([model(batch) for batch in batches])
    generator = torch.Generator().manual_seed(0)
    classes = torch.nn.functional.normalize(torch.randn(5, features.shape[1], generator=generator), dim=-1)
    head = {"classes": classes, "logit_scale": torch.tensor(100.0)}
    labelled = [(batch, torch.arange(len(model(batch))) % 5) for batch in batches]
    expected = classify(model, head, labelled, "cpu", "test")
    found = classify(copy.deepcopy(model).to(device), head, labelled, "cuda", "test")
    assert float((found.loss - expected.loss).abs().max()) < 1e-3
    assert torch.equal(found.correct, expected.correct)


def test_greedy_answers_are_the_cpus(t5s, device):
    model = copy.deepcopy(t5s.merged).to(device)
    for batch in t5s.calibration["a"]:
        assert torch.equal(model.generate(batch, 8).cpu(), t5s.merged.generate(batch, 8))


def test_a_suite_runs_on_it(fresh, device):
    fresh.snakemake("--configfile", "tiny.yaml", timeout=400)
    manifests = [read_json(path) for path in (fresh.work / "results/quantized").rglob("manifest.json")]
    assert manifests
    assert all(made["device"].startswith("cuda: ") for made in manifests)
