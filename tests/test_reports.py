"""What reports are made of, for models that no shipped suite needs to have."""

from types import SimpleNamespace

from pmqbench.workflow.layout import Model
from pmqbench.workflow.reports import Reports

MERGE = SimpleNamespace(name="ta", chosen=("scaling",))
QUANTIZER = SimpleNamespace(name="gptq", chosen=("damping",), method=SimpleNamespace(bits=4, group_size=None))


def model(folder, seed, refinement=None):
    return Model(folder, "quantized", folder, ("digits",), MERGE, QUANTIZER, seed, refinement)


def test_loss_curves_are_those_of_the_refined_models():
    models = [model("plain", 0), model("refined/seed-0", 0, "distill"), model("refined/seed-1", 1, "distill")]
    layout = SimpleNamespace(targets={"mini": "all"}, models_of=lambda target: {"all": models}[target])
    reports, wildcards = Reports(layout), SimpleNamespace(report="mini")
    rows = reports.curve_rows(wildcards)
    assert [(row["path"], row["seed"]) for row in rows] == [(f"refined/seed-{seed}/curve.json", seed) for seed in (0, 1)]
    assert {row["chosen"] for row in rows} == {"scaling, damping"}
    assert reports.curve_files(wildcards) == [row["path"] for row in rows]
    layout.models_of = lambda target: models[:1]
    assert reports.curve_rows(wildcards) == []
