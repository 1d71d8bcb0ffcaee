"""The workflow's layout without Snakemake: which files, plans and jobs a suite has."""

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pmqbench.config import load_suite, read_config
from pmqbench.errors import ConfigError
from pmqbench.workflow.__main__ import main as print_folder
from pmqbench.workflow.evaluations import Evaluations
from pmqbench.workflow.layout import Layout, any_of
from pmqbench.workflow.quantizations import Quantizations
from pmqbench.workflow.reports import Reports
from pmqbench.workflow.stages import Stages, code_of

ROOT = Path(__file__).parents[1]
MINI = read_config(ROOT / "config" / "mini.yaml")


class Wildcards(SimpleNamespace):
    """As Snakemake's: names, and `get`."""

    def get(self, name, default=None):
        return getattr(self, name, default)


# One recipe a method but for E-PMQ's two.
SINGLE = MINI | {"bits": [4], "targets": {}}


def stages(config=MINI, made=None):
    return Stages(Layout(load_suite(config)), (made or {}).get)


def quantizations(config=SINGLE, made=None):
    return Quantizations(stages(config, made))


def calibrated(quantizations, quantizer="gptq"):
    """<merge>/<quantizer> of the first pair with a quantizer, and its models."""
    merge, recipe = next((m, q) for m, q in quantizations.layout.pairs if q.name == quantizer)
    return f"{merge.id}/{recipe.id}", quantizations.layout.quantized_models(merge, recipe)


def made_of(quantizations, path):
    """Manifests of base, experts and the path's merge, made by today's code."""
    stages = quantizations.stages
    layout, merge = stages.layout, path.split("/")[0]
    manifests = {f"{layout.base}/manifest.json": stages.base_code()}
    manifests |= {f"{model.folder}/manifest.json": stages.expert_code() for model in layout.expert_models}
    return manifests | {f"results/merged/{merge}/manifest.json": stages.merge_code(Wildcards(merge=merge))}


def evaluated(quantizations, model):
    """The first record of a model, made by today's code."""
    return {quantizations.layout.record_files(model)[0]: Evaluations(quantizations).code()}


def test_seeds_share_a_job_until_one_of_them_is_there():
    first = quantizations()
    path, models = calibrated(first)
    assert path in first.in_one_job
    assert path not in first.one_by_one()
    code = first.quantizer_code(models[0].quantizer)
    one = {f"{models[1].folder}/manifest.json": code}
    some = quantizations(made=made_of(first, path) | one)
    assert path in some.one_by_one()
    assert path not in some.in_one_job
    assert path in quantizations(made=one).in_one_job  # the seed is there, but what it is made of is not
    stale = {f"{model.folder}/manifest.json": "old" for model in models}
    assert path in quantizations(made=made_of(first, path) | stale).in_one_job
    large = quantizations(SINGLE | {"batch_jobs": False})
    assert large.in_one_job == Evaluations(large).in_one_job == []


def test_what_is_there_is_looked_at_once_a_start():
    asked = []
    looking = Quantizations(Stages(Layout(load_suite(MINI)), asked.append))
    evaluation = Evaluations(looking)
    for paths in (looking.in_one_job, looking.one_by_one(), evaluation.in_one_job, evaluation.alone()):
        assert isinstance(paths, list)
    assert asked.count(f"{looking.layout.base}/manifest.json") == 1
    assert len(asked) == len(set(asked))


def test_records_share_a_job_until_one_of_them_is_there():
    first = quantizations()
    path, models = calibrated(first)
    made = made_of(first, path) | {f"{m.folder}/manifest.json": first.quantizer_code(m.quantizer) for m in models}
    made |= evaluated(first, first.layout.merged_model(models[0].merge))  # else one job evaluates all of the merge
    quantized = Evaluations(quantizations(made=made))
    assert path in quantized.in_one_job
    record = {first.layout.record_files(models[0])[1]: quantized.code()}
    partly = Evaluations(quantizations(made=made | record))
    assert path not in partly.in_one_job
    assert {model.id for model in models} <= set(partly.alone())
    assert not {model.id for model in models} & set(quantized.alone())


def test_a_methods_recipes_of_a_merge_share_a_job_until_one_of_them_is_there():
    first = quantizations(MINI | {"targets": {}})
    assert {batch.method: len(batch.recipes) for batch in first.batches} == {"gptq": 2, "awq": 2, "epmq": 4}
    assert {batch.method: len(batch.recipes) for batch in first.tuning_batches} == {"epmq": 4}
    assert first.in_one_job == first.one_by_one() == first.tuned() == []
    batch = first.batches[0]
    plan = first.batch_plan(batch)(Wildcards(merge=batch.merges[1]), None)
    assert [recipe["recipe"]["options"]["bits"] for recipe in plan["recipes"]] == [4, 2]
    assert len(first.seed_files(batch)) == 2 * 3 * len(first.layout.quantized_files(""))
    path, models = calibrated(first)
    made = made_of(first, path) | {f"{models[0].folder}/manifest.json": first.quantizer_code(models[0].quantizer)}
    some = quantizations(MINI | {"targets": {}}, made)
    assert models[0].merge.id not in some.batches[0].merges
    assert path in some.one_by_one()
    assert some.in_one_job == [f"{models[0].merge.id}/{batch.recipes[1].id}"]
    tuned = first.layout.quantized[first.tuning_batches[0].paths()[0]][0]
    choice = {f"results/quantized/{tuned.merge.id}/{tuned.quantizer.id}/tuning.json": first.choice_code(tuned.quantizer)}
    chosen = quantizations(MINI | {"targets": {}}, choice)
    assert tuned.merge.id not in chosen.tuning_batches[0].merges
    assert len(chosen.tuned()) == 4
    large = quantizations(MINI | {"targets": {}, "batch_jobs": False})
    assert large.batches == large.tuning_batches == []


def test_a_merge_is_evaluated_in_one_job_until_a_record_of_it_is_there():
    first = quantizations(MINI | {"targets": {}})
    merges = Evaluations(first).by_merge
    assert {len(models) for models in merges.values()} == {1 + 2 + 2 * 3 * 4}
    assert not any(model.refinement for models in merges.values() for model in models)
    merge, models = next(iter(merges.items()))
    some = Evaluations(quantizations(MINI | {"targets": {}}, evaluated(first, models[5])))
    assert some.by_merge.keys() == merges.keys() - {merge}
    assert models[0].id in some.alone()
    assert Evaluations(quantizations(MINI | {"targets": {}, "batch_jobs": False})).by_merge == {}


def test_a_refinement_starts_from_the_model_of_its_seed():
    first = quantizations(MINI | {"targets": {}})
    path = first.refined()[0]
    model = first.layout.refined[path][1]
    plan = first.refine_plan(Wildcards(quantized=path, seed="1"), None)
    assert (plan["folder"], plan["seed"]) == (model.folder, 1)
    assert plan["start"] == f"{model.folder.rpartition('/')[0].rpartition('/')[0]}/seed-1"
    unseeded = copy.deepcopy(MINI | {"targets": {}})
    unseeded["quantizers"]["distilled"]["method"] = "rtn"
    other = quantizations(unseeded)
    path = other.refined()[0]
    assert (
        other.refine_plan(Wildcards(quantized=path, seed="1"), None)["start"] == f"results/quantized/{path.rpartition('/')[0]}"
    )


def test_a_plan_names_what_the_job_makes():
    first = quantizations()
    path, models = calibrated(first, "epmq")
    plan = first.quantizer_plan(Wildcards(quantized=path), None)
    (recipe,) = plan["recipes"]
    assert [(model["folder"], model["seed"]) for model in recipe["models"]] == [(m.folder, m.seed) for m in models]
    assert recipe["tuning"] == f"results/quantized/{path}/tuning.json"
    (alone,) = first.quantizer_plan(Wildcards(quantized=path, seed="1"), None)["recipes"]
    assert [model["seed"] for model in alone["models"]] == [1]
    assert list(plan["experts"]) == MINI["tasks"]
    evaluation = Evaluations(first).plan(Wildcards(quantized=path), None)
    assert [model["id"] for model in evaluation["models"]] == [model.id for model in models]
    assert [len(model["records"]) for model in evaluation["models"]] == [4] * 3
    expert = first.layout.expert_models[2]
    record = Path(first.layout.record_files(expert)[0]).stem
    (only,) = Evaluations(first).plan(Wildcards(model=expert.id, record=record), None)["models"]
    assert (only["kind"], only["records"]) == ("expert", first.layout.record_files(expert))
    rtn = next(path for path in first.uncalibrated())
    assert "experts" not in first.quantizer_plan(Wildcards(quantized=rtn), None)


def test_what_sees_samples_is_spread_over_processes_and_what_sees_none_is_not():
    merges = {"ta": {"method": "task_arithmetic"}, "regmean": {"method": "regmean"}}
    quantizers = {name: {"method": name} for name in ("rtn", "gptq", "epmq")}
    spread = quantizations(SINGLE | {"processes": 2, "merges": merges, "quantizers": quantizers})
    plans = [spread.stages.merge_plan(Wildcards(merge=merge), None) for merge in spread.layout.merges]
    assert [plan["processes"] for plan in plans] == [1, 2]
    planned = {
        recipe.name: spread.quantizer_plan(Wildcards(quantized=f"{merge.id}/{recipe.id}"), None)["processes"]
        for merge, recipe in spread.layout.pairs
    }
    assert planned == {"rtn": 1, "gptq": 2, "epmq": 2}


def test_a_revision_of_another_expert_is_not_in_an_experts_plan():
    config = read_config(ROOT / "config" / "clip-vit-b32-ta8.yaml")
    config["experts"] |= {"revision": "main", "revisions": {"dtd": "x"}}
    hub = stages(config)
    plans = {hub.layout.experts[e].name: hub.expert_plan(Wildcards(expert=e), None) for e in hub.layout.experts}
    assert plans["dtd"]["source"]["revision"] == "x"
    assert plans["mnist"]["source"]["revision"] == "main"
    assert all("revisions" not in plan["source"] for plan in plans.values())


def test_every_model_of_a_report_has_files_and_records_of_its_own():
    layout = stages().layout
    reports = Reports(layout)
    for report in layout.targets:
        rows = reports.record_rows(Wildcards(report=report))
        keys = [(row["path"], row["merge"], row["quantizer"]) for row in rows]
        assert len(set(keys)) == len(keys)
    folders = [model.folder for model in layout.models.values()]
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize("name", ["ablations", "default", ""])
def test_an_unknown_target_names_those_that_exist(name):
    config = copy.deepcopy(MINI)
    del config["targets"]["ablations"]
    with pytest.raises(ConfigError, match=rf'suite mini has no target "{name}"; it has: all, full, seeds\.'):
        Reports(Layout(load_suite(config))).target_files(name)(None)


def test_make_is_told_a_targets_folder_or_what_is_wrong(tmp_path, capsys):
    config = tmp_path / "file.yaml"
    config.write_text((ROOT / "config/mini.yaml").read_text().replace("suite: mini", "suite: other"))
    print_folder(str(config), "all")
    print_folder(str(config), "full")
    assert capsys.readouterr().out == "results/suites/other\nresults/suites/other@full\n"
    for path, target, message in [(config, "nope", "it has: all, full, ablations"), (tmp_path / "none.yaml", "all", "no such")]:
        with pytest.raises(SystemExit, match=message):
            print_folder(str(path), target)


def test_nothing_matches_no_names():
    import re

    assert re.fullmatch(any_of([]), "") is None
    assert re.fullmatch(any_of(["a.b", "c"]), "a.b")
    assert re.fullmatch(any_of(["a.b", "c"]), "axb") is None


def test_the_code_of_a_file_that_cannot_be_read_is_unknown(tmp_path):
    assert code_of(str(tmp_path / "none.json")) is None
    (tmp_path / "half.json").write_text('{"code": ')
    assert code_of(str(tmp_path / "half.json")) is None
    (tmp_path / "manifest.json").write_text('{"code": "abc"}')
    (tmp_path / "record.json").write_text('{"provenance": {"code": "def"}}')
    assert [code_of(str(tmp_path / name)) for name in ("manifest.json", "record.json")] == ["abc", "def"]


def test_a_job_s_process_offers_every_rule_whatever_is_there():
    """It starts Snakemake anew while results are partly there, and is told which rule it is for."""
    first = quantizations(MINI | {"targets": {}})
    made = {path: code for quantized in first.calibrated() for path, code in made_of(first, quantized).items()}
    made |= {
        f"{model.folder}/manifest.json": first.quantizer_code(model.quantizer)
        for models in first.layout.quantized.values()
        for model in models
    }
    for model in first.layout.models.values():
        made |= evaluated(first, model)
    later = Quantizations(stages(MINI | {"targets": {}}, made))
    assert later.batches == []
    assert Evaluations(later).by_merge == {}
    job = Quantizations(replace(later.stages, in_job=True))
    assert job.batches == first.batches
    assert job.tuning_batches == first.tuning_batches
    assert job.in_one_job == job.one_by_one() == list(first.calibrated())
    assert set(job.tuned()) == {path for batch in first.tuning_batches for path in batch.paths()}
    evaluation = Evaluations(job)
    assert evaluation.by_merge == Evaluations(first).by_merge
    assert evaluation.in_one_job == list(first.seeded())
    assert set(evaluation.alone()) == {model.id for model in first.layout.models.values() if model.kind != "expert"}
