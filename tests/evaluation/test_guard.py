"""Numbers that cannot be right: each guard with the fault put in, and the equal numbers that are right."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pmqbench.checkpoints import save_checkpoint
from pmqbench.errors import DataError, NumericalError, PMQError
from pmqbench.evaluation.base import Score
from pmqbench.evaluation.guard import FINGERPRINT, Named, check_records, check_score
from pmqbench.families.base import FAMILIES
from pmqbench.families.clip import Clip
from pmqbench.integrity import write_manifest, write_sealed
from pmqbench.quantization.grid import LayerCodes, fit_grid
from pmqbench.quantization.packing import save_packed
from pmqbench.records import Record, read_record
from pmqbench.steps.evaluate_model import main
from pmqbench.tasks.splits import save_split
from tests.families.clip_toy import IMAGES, VISION, save_processor, tuned_tower, whole_clip

LABELS = torch.tensor([0, 1, 0, 1, 1])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A merged model at full precision, as a folder."""
    folder = tmp_path_factory.mktemp("merged")
    tuned_tower(whole_clip()[0]).save_pretrained(folder)
    save_processor(folder)
    return folder


@pytest.fixture
def job(base, tmp_path):
    """An evaluation of the merge rounded to 4 bits, and of the merge itself; `results` reads the records."""
    family = Clip()
    checkpoint, rng = family.checkpoint(base), torch.Generator().manual_seed(0)
    codes = {}
    for layer in family.linear_shapes({"vision_config": VISION, "model_type": "clip"}):
        grid = fit_grid(checkpoint.tensor(f"{layer}.weight"), 4)
        codes[layer] = LayerCodes.of(grid, grid.encode(checkpoint.tensor(f"{layer}.weight")))
    tensors = dict(checkpoint.items()) | {f"{layer}.weight": coded.weight() for layer, coded in codes.items()}
    for name, saved, recipe in (
        ("merged", dict(checkpoint.items()), {}),
        ("quantized", tensors, {"quantizer": {"method": "rtn", "options": {"bits": 4}}}),
    ):
        family.save(tmp_path / name, saved, base, {})
        if recipe:
            save_packed(tmp_path / name / "packed.safetensors", tensors, codes)
        write_manifest(tmp_path / name, {"recipe": recipe, "inputs": {}, "size_bytes": 1})
    save_split(tmp_path / "test.safetensors", IMAGES.numpy(), LABELS.numpy(), 2, "test")
    write_sealed(tmp_path / "data.json", {"commit": "", "examples": {"test": len(LABELS)}})
    classes = torch.nn.functional.normalize(torch.randn(2, VISION["hidden_size"], generator=rng), dim=-1)
    save_checkpoint(tmp_path / "head.safetensors", {"classes": classes, "logit_scale": torch.tensor(20.0)})
    task = {"name": "digits", "metric": "accuracy", "data_id": "digits-1", "base": str(base)}
    task |= {"split": tmp_path / "test.safetensors", "manifest": tmp_path / "data.json", "head": tmp_path / "head.safetensors"}
    models = [
        {"id": name, "kind": name, "folder": str(tmp_path / name), "seed": None, "records": [tmp_path / f"{name}.json"]}
        for name in ("merged", "quantized")
    ]
    plan = {"family": "clip", "models": models, "tasks": [task], "batch_size": 4}
    return SimpleNamespace(
        threads=1, resources={}, params=SimpleNamespace(plan=plan, code="c"), tensors=tensors, codes=codes, folder=tmp_path
    )


def results(job):
    return [Named(read_record(job.folder / f"{name}.json"), "ta", bits) for name, bits in (("merged", 32), ("quantized", 4))]


def test_what_is_right_passes_and_records_tell_the_weights(job):
    main(job)
    merged, quantized = results(job)
    assert merged.record.provenance[FINGERPRINT] != quantized.record.provenance[FINGERPRINT]
    check_records([merged, quantized])


def another_seed(job):
    codes = {layer: replace(coded, codes=coded.codes.roll(1, 0)) for layer, coded in job.codes.items()}
    save_packed(job.folder / "quantized/packed.safetensors", job.tensors, codes)


def moved(job):
    name = next(iter(job.codes)) + ".weight"
    weight = job.tensors[name].clone()
    weight[0, 0] += 1e-6
    Clip().save(job.folder / "quantized", job.tensors | {name: weight}, job.folder / "merged", {})


def unrounded(job):
    Clip().save(job.folder / "quantized", dict(Clip().checkpoint(job.folder / "merged").items()), job.folder / "merged", {})
    save_packed(job.folder / "quantized/packed.safetensors", dict(Clip().checkpoint(job.folder / "merged").items()), {})


def truncated(job):
    save_split(job.folder / "test.safetensors", IMAGES[:4].numpy(), LABELS[:4].numpy(), 2, "test")


@pytest.mark.parametrize(
    ("put_in", "told"),
    [
        (another_seed, r"quantized: the tensor .* is not what packed\.safetensors beside it gives .* quantized anew"),
        (moved, r"quantized: the tensor .* is on no grid"),
        (unrounded, r"packed\.safetensors: no layer has codes, though the recipe has 4 bits"),
        (truncated, r"merged, task digits: 4 examples were scored, the test split has 5\. .*results/data"),
    ],
)
def test_a_wrong_file_ends_the_evaluation(job, put_in, told):
    put_in(job)
    with pytest.raises(DataError, match=told):
        main(job)


def test_a_family_that_ignores_its_file(job, base, monkeypatch):
    class Forgetful(Clip):
        def build(self, folder, label=""):
            return super().build(base, label)

    monkeypatch.setattr(FAMILIES, "get", lambda name, where="": Forgetful)
    with pytest.raises(DataError, match=r'quantized: the model does not run with the tensor ".*" of its file'):
        main(job)
    assert (job.folder / "merged.json").exists()
    assert not (job.folder / "quantized.json").exists()


HALF = Score(0.5, 0.25, 4, np.array([1, 1, 0, 0], bool), 0.7)


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (replace(HALF, value=1.5), r"here: the metric is 1\.5, not within 0 \.\. 1"),
        (replace(HALF, value=-0.5, correct=None), "not within 0"),
        (replace(HALF, value=float("nan")), "the metric is nan"),
        (replace(HALF, loss=float("inf")), "the loss is inf"),
        (replace(HALF, loss=-0.1), r"the loss is -0\.1"),
        (replace(HALF, standard_error=float("nan")), "its standard error is nan"),
        (replace(HALF, value=0.75), r"4 outcomes have the mean 0\.5, the metric is 0\.75 of 4"),
        (replace(HALF, correct=HALF.correct[:2]), "2 outcomes"),
    ],
)
def test_scores_that_no_model_has(score, told):
    check_score(HALF, 4, "here")
    check_score(Score(-0.9, 0.1, 4, least=-1.0), 4, "here")
    with pytest.raises(NumericalError, match=told):
        check_score(score, 4, "here")


def named(model, weights, *, kind="quantized", merge="ta", bits=4, loss=0.7, n=4, task="digits"):
    made = {FINGERPRINT: weights}
    return Named(Record(model, kind, task, None, "accuracy", 0.5, n, 0.25, loss, "wA==", 1, 0.1, 1.0, made), merge, bits)


MERGED = named("merged/ta", "m", kind="merged", bits=32, loss=0.5)


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([named("a", "1"), named("b", "2")], r"task digits: a and b have other weights, but answer all examples alike.*Delete"),
        ([MERGED, named("a", "m", loss=0.5)], "a: it has 4 bits and the weights of its merge"),
        ([named("a", "1"), named("b", "2", loss=0.8, n=5)], "task digits: b was scored on 5 examples, a on 4"),
    ],
)
def test_records_that_cannot_all_be_right(records, told):
    with pytest.raises(PMQError, match=told):
        check_records(records)


def test_equal_numbers_that_are_right():
    """A choice that is the default, seeds that nothing depends on, a kept start, no rounding, losses that tell nothing."""
    check_records(
        [
            MERGED,
            named("merged/ta-val", "m", kind="merged", merge="ta-val", bits=32, loss=0.5),
            named("ta/relaxed-16bit", "m", bits=16, loss=0.5),
            named("ta/gptq/seed-0", "q"),
            named("ta/gptq/seed-1", "q"),
            named("ta/gptq/distill/seed-0", "q"),
            named("ta/gptq/seed-0", "q", task="textures"),
            named("t5/a", "1", loss=None, task="sst2"),
            named("t5/b", "2", loss=None, task="sst2"),
            named("sure/a", "3", loss=0.0),
            named("sure/b", "4", loss=0.0),
            named("equal-logits/a", "3", loss=2.3025851249694824),
            named("equal-logits/b", "4", loss=2.3025851249694824),
        ]
    )
