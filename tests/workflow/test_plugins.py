"""A method of an installed package, from the config to the merged model, in jobs of their own."""

import json

import yaml

from tests.test_plugins import write_package

MERGED_ANEW = {"merge_experts": 1, "total": 1}
RECIPE = {"method": "half_way", "strength": 1.5}


def test_the_workflow_uses_a_method_of_a_package_and_sees_its_edits(edited):
    site = edited.work / "site"
    package = write_package(site, "[pmqbench.merging]\nhalf_way = other_methods.half_way:HalfWay\n")
    edited.variables = {"PYTHONPATH": str(site)}
    config = yaml.safe_load((edited.work / "tiny.yaml").read_text())
    (edited.work / "tiny.yaml").write_text(yaml.safe_dump(config | {"merges": {"mine": RECIPE} | config["merges"]}))
    asked = ("--configfile", "tiny.yaml", "--until", "merge_experts")
    assert edited.planned(*asked) == MERGED_ANEW
    edited.snakemake(*asked)
    (folder,) = (edited.work / "results/merged").glob("halfway-strength1.5-*")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["recipe"]["method"] == "half_way"
    assert manifest["recipe"]["options"] == {"strength": 1.5}
    assert edited.planned(*asked) == {"total": 0}
    (package / "parts.py").write_text((package / "parts.py").read_text().replace("sum(values)", "max(values)"))
    assert edited.planned(*asked) == MERGED_ANEW
