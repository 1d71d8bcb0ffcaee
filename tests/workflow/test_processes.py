"""Jobs on calibration samples in two processes each, through Snakemake: the files are those that one process makes."""

import json
import shutil

import pytest

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def folders(done):
    """Below results/quantized: E-PMQ with a chosen anchor, and GPTQ refined, of one merge and seed."""
    quantized = done.work / "results/quantized"
    found = [*quantized.glob("taskarithmetic*/epmq*/seed-0"), *quantized.glob("taskarithmetic*/gptq*/distill*/seed-0")]
    return [path.relative_to(quantized) for path in found]


@pytest.fixture(scope="module")
def spread(done, folders, tmp_path_factory):
    project = done.copy(tmp_path_factory.mktemp("spread"))
    for folder in folders:
        shutil.rmtree(project.work / "results/quantized" / folder.parts[0] / folder.parts[1])
    files = [f"results/quantized/{folder}/manifest.json" for folder in folders]
    project.snakemake("--configfile", "tiny.yaml", "--config", "processes=2", "--", *files)
    return project


def test_models_are_the_same(done, folders, spread):
    """A refined one nearly, for its gradients are added up in another order."""
    epmq, refined = folders
    for folder in (epmq, refined.parents[1] / "seed-0"):
        one, two = (project.work / "results/quantized" / folder / "packed.safetensors" for project in (done, spread))
        assert one.read_bytes() == two.read_bytes()
    one, two = (
        json.loads((project.work / f"results/quantized/{refined}/curve.json").read_text()) for project in (done, spread)
    )
    for loss in ("loss", "held_out"):
        assert [point[loss] for point in two] == [point[loss] and pytest.approx(point[loss], rel=1e-5) for point in one]
    choice = epmq.parent / "tuning.json"
    one, two = (json.loads((project.work / "results/quantized" / choice).read_text())["curve"] for project in (done, spread))
    assert one == two


def test_manifests_tell_of_the_processes(done, folders, spread):
    for folder in folders:
        one, two = (
            json.loads((project.work / f"results/quantized/{folder}/manifest.json").read_text()) for project in (done, spread)
        )
        assert (one["processes"], one["threads"]) == (1, 1)
        assert (two["processes"], two["threads"]) == (2, 1)
        assert one["recipe"] == two["recipe"]
    assert not list(spread.work.glob("results/states/**/*.pt"))
