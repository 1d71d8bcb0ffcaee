"""warnings.json: what jobs, gate, suite and libraries have to say, once each."""

import json

import pytest

from pmqbench.errors import DataError
from pmqbench.files import read_json
from pmqbench.integrity import write_sealed
from pmqbench.reporting.report_warnings import folder_of, mixed_libraries, write_warnings

QUIET = {"source": "", "experts": [], "unchecked": [], "below_base": []}


@pytest.fixture
def records(frame):
    return frame(merges={"ta": 0.6}, quantizers={"rtn": 0.0}, bits=(4,), n=20)


@pytest.fixture
def gathered(tmp_path, monkeypatch, records):
    """`gathered(manifests by folder, ...)` -> the warnings."""
    monkeypatch.chdir(tmp_path)

    def gather(manifests=(), stated=(), gates=QUIET, table=records):
        paths = [f"results/{folder}/manifest.json" for folder in dict(manifests)]
        for path, manifest in zip(paths, dict(manifests).values(), strict=True):
            write_sealed(path, manifest)
        write_warnings("warnings.json", suite="mini", stated=stated, manifests=paths, gates=gates, records=table)
        return [(one["where"], one["message"]) for one in read_json("warnings.json")]

    return gather


def test_nothing_to_warn_of(gathered):
    assert gathered({"merged/ta": {"warnings": []}, "data/digits-1": {}}) == []


def test_every_source_is_heard_once(gathered, records):
    gates = QUIET | {"below_base": [{"expert": "experts/e", "task": "signs", "ours": 10.0, "base": 20.0}]}
    records.loc[3, "warnings"] = json.dumps(["signs: every answer is 3."])
    manifests = {
        "data/digits-1": {"warnings": ["4 rows were left out."]},
        "merged/ta": {"warnings": ["135 samples, not\n1000."]},
        "quantized/ta/gptq/seed-0": {"warnings": ["135 samples, not 1000.", "2 rows were singular."]},
    }
    found = gathered(manifests, ["org/model is not pinned."], gates, records)
    assert found == [
        ("mini", "org/model is not pinned."),
        ("gate", found[1][1]),
        ("data/digits-1", "4 rows were left out."),
        ("merged/ta and 1 more", "135 samples, not 1000."),
        ("quantized/ta/gptq/seed-0", "2 rows were singular."),
        (f"evaluations/{records['model'][3]}", "signs: every answer is 3."),
    ]
    assert "experts/e, task signs: the expert has 10.00 %" in found[1][1]


def test_a_strict_suite_refuses_models_of_too_few_samples(gathered, records):
    recipe = {"quantizer": {"options": {"calibration_samples": 48}}, "calibration_samples": {"digits": 48, "signs": 31}}
    assert gathered({"quantized/ta/gptq/seed-0": {"recipe": recipe}}) == []
    paths = ["results/quantized/ta/gptq/seed-0/manifest.json"]
    with pytest.raises(DataError, match=r"quantized/ta/gptq/seed-0: task signs had 31 calibration samples where 48"):
        write_warnings("w.json", suite="mini", stated=[], manifests=paths, gates=QUIET, records=records, strict=True)
    recipe["calibration_samples"]["signs"] = 48
    write_sealed(paths[0], {"recipe": recipe})
    write_warnings("w.json", suite="mini", stated=[], manifests=paths, gates=QUIET, records=records, strict=True)
    assert read_json("w.json") == []


def test_an_expert_that_scores_nothing(gathered, records):
    records.loc[records["kind"].eq("expert") & records["task"].eq("signs"), "value"] = 0.0
    (found,) = gathered(table=records)
    assert found[0] == "mini"
    assert "the expert of signs scores nothing" in found[1]


def test_a_manifest_outside_results_keeps_its_path():
    assert folder_of("results/merged/ta/manifest.json") == "merged/ta"
    assert folder_of("/elsewhere/merged/ta/manifest.json") == "/elsewhere/merged/ta"


def made(torch="2.15.0", kernel="AVX512", processor="Xeon", device="cpu", **versions):
    return {
        "versions": {"torch": torch, "python": "3.11", "snakemake": "9"} | versions,
        "kernels": {"torch": kernel},
        "processor": processor,
        "device": device,
    }


def test_mixed_libraries_are_named_with_their_models():
    models = [(f"quantized/ta/q{number}", made()) for number in range(9)]
    assert list(mixed_libraries(models)) == []
    (one,) = mixed_libraries([*models, ("merged/ta", made(torch="2.14.0"))])
    assert one.startswith("the report mixes torch: 2.15.0 for 9 of its results; 2.14.0 for merged/ta. ")
    old = [(f"evaluations/merged/m{number}", made(torch="2.14.0")) for number in range(7)]
    (many,) = mixed_libraries([*models, *old])
    assert "2.14.0 for evaluations/merged/m0, evaluations/merged/m1, " in many
    assert "evaluations/merged/m4 and 2 more. " in many


def test_what_decides_no_number_mixes_nothing():
    """Python's and Snakemake's versions; what all rows share, as experts; a machine for each stage; a library not loaded."""
    models = [("merged/ta", made()), ("merged/ties", made())]
    other = made(kernel="AVX2", processor="EPYC", device="cuda: H100")
    models += [("quantized/ta/gptq", other), ("quantized/ties/gptq", other)]
    models += [("evaluations/merged/ta", made(python="3.12", snakemake="10")), ("experts/e", made(torch="1.0", kernel="AVX"))]
    models += [("evaluations/merged/ties", made() | {"kernels": {}})]
    assert list(mixed_libraries(models)) == []


def test_another_kernel_within_a_stage_is_named():
    models = [("quantized/ta/gptq", made()), ("quantized/ta/awq", made()), ("quantized/ta/epmq", made(kernel="AVX2"))]
    (found,) = mixed_libraries(models)
    assert found.startswith("the report mixes torch of quantized: AVX512 for 2 of its results; AVX2 for quantized/ta/epmq. ")


def test_records_are_searched_too(gathered, records):
    records.loc[5, "provenance"] = json.dumps({"versions": {"torch": "1.0"}})
    (found,) = gathered(table=records)
    assert found[0] == "mini"
    assert f"1.0 for evaluations/{records['model'][5]}" in found[1]
