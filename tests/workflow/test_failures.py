"""What a user meets when something breaks: the message, what goes on, and that nothing half-made is used later."""

import re

import pytest
import yaml

CONFIG = ("--configfile", "tiny.yaml")


@pytest.fixture
def project(fresh, tmp_path):
    return fresh.copy(tmp_path)


def test_a_damaged_expert_is_named_and_the_rest_goes_on(project):
    weights = project.work / "models/digits/open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    output = project.snakemake(*CONFIG, "--keep-going", "--until", "fetch_expert", "build_heads", code=1)
    assert "error in fetch_expert: " in output
    assert f"{weights}: not a readable" in output
    assert "put a whole copy there" in output
    assert re.search(rf"^1 job failed:\n\n  {weights}: not a readable .*\n    fetch_expert local-digits-", output, re.MULTILINE)
    models = project.work / "results/experts"
    assert sorted(path.parent.name.split("-")[1] for path in models.glob("local-*/manifest.json")) == ["base", "textures"]
    assert len(list((project.work / "results/heads").glob("*/*.safetensors"))) == 2
    (log,) = (project.work / "results/logs/fetch_expert").glob("local-digits-*.log")
    assert "not a readable safetensors file" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_a_bad_config_stops_before_any_work(project):
    config = yaml.safe_load((project.work / "tiny.yaml").read_text())
    config["quantizers"]["epmq"]["anchr"] = 0.1
    (project.work / "tiny.yaml").write_text(yaml.safe_dump(config))
    output = project.snakemake(*CONFIG, code=1)
    assert re.search(r'tiny\.yaml, line \d+: quantizers\.epmq\.anchr: unknown key "anchr"\. Did you mean "anchor"\?', output)
    assert "Traceback" not in output
    assert not (project.work / "results").exists()


def test_a_bad_default_config_is_named_where_it_lies(project):
    mini = project.source / "config/mini.yaml"
    mini.write_text(mini.read_text().replace("seeds:", "seedz:", 1))
    assert f"error in the config: {mini}, line " in project.snakemake("-n", code=1)


def test_duplicate_names_in_the_file_are_found(project):
    text = (project.work / "tiny.yaml").read_text()
    (project.work / "tiny.yaml").write_text(text.replace("quantizers:\n", "quantizers:\n  rtn: {method: gptq}\n"))
    assert 'key "rtn" stands twice' in project.snakemake(*CONFIG, code=1)


def test_an_unknown_target_of_a_suite_says_so(project):
    assert 'suite tiny has no target "ablations"; it has: all' in project.snakemake("ablations", *CONFIG, code=1)
