"""Bad configs are answered before any work starts: where, what, and what to do."""

import copy
from pathlib import Path

import pytest

from pmqbench.config import load_suite, read_config
from pmqbench.errors import ConfigError

ROOT = Path(__file__).parents[1]
SUITES = sorted((ROOT / "config").glob("*.yaml"))
MINI = read_config(ROOT / "config" / "mini.yaml")


def changed(change):
    config = copy.deepcopy(MINI)
    change(config)
    return config


def tuned(config, **candidates):
    config["quantizers"]["epmq"]["tune"] = candidates


def refined(config, **options):
    config["quantizers"]["distilled"]["refine"].update(options)


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_shipped_config_loads(path):
    suite = load_suite(read_config(path))
    assert suite.name == path.stem
    assert suite.targets["default"].pairs


def test_mini_default_target_is_what_the_readme_says():
    target = load_suite(MINI).targets["default"]
    assert [merge.name for merge in target.merges] == ["ta", "ta-val", "tsvm-svc", "wudi"]
    everywhere = {"rtn", "gptq", "awq", "epmq", "epmq-expert"}
    assert {q.name for _, q in target.pairs} == everywhere | {"distilled"}
    assert {merge.name for merge, q in target.pairs if q.name == "distilled"} == {"wudi"}
    assert {q.method.bits for _, q in target.pairs} == {4, 2}
    assert len(target.pairs) == 4 * 5 * 2 + 2


def test_defaults_are_filled_in():
    minimal = {key: MINI[key] for key in ("suite", "family", "base", "experts", "tasks")}
    suite = load_suite({**minimal, "merges": {"a": {"method": "simple_average"}}, "quantizers": {"r": {"method": "rtn"}}})
    assert suite.seeds == (0, 1, 2)
    assert suite.evaluation_batch == 256
    assert [q.method.bits for _, q in suite.targets["default"].pairs] == [4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(task=["digits"]), ['unknown key "task"', 'Did you mean "tasks"?']),
        (lambda c: c.pop("family"), ['"family" is missing', "Model family"]),
        (lambda c: c.update(family="open_clap"), ["family", 'unknown model family "open_clap"', 'Did you mean "open_clip"?']),
        (lambda c: c["tasks"].append("digit"), ["tasks.4", 'unknown task "digit"', 'Did you mean "digits"?']),
        (lambda c: c["tasks"].append("digits"), ["tasks", '"digits" stands twice']),
        (lambda c: c.update(tasks=[]), ["tasks", "must not be empty"]),
        (lambda c: c.update(bits=4), ["bits: must be a list, e.g. [4], not 4."]),
        (lambda c: c.update(bits="4 bits"), ["bits: must be a list, e.g. [2], not"]),
        (lambda c: c.update(bits=None), ["bits: must be a list", "not empty (null)"]),
        (lambda c: c.update(merges=None), ["merges: must be a mapping of keys to values, not empty"]),
        (lambda c: c.update(group_sizes=["row"]), ["group_sizes.0", 'a whole number of at least 1 or "channel", not "row"']),
        (lambda c: c.update(group_sizes=[0]), ["group_sizes.0: must be at least 1, not 0."]),
        (lambda c: c["merges"]["ta"].update(scaling=[30, 1, 1, 1]), ["merges.ta.scaling.0: must be at most 10, not 30."]),
        (lambda c: c["merges"]["ta"].update(method=3), ["must be a text (in quotes), not 3.", "a file of pmqbench/merging/"]),
        (lambda c: c["merges"]["ta-val"].update(tune_scaling=[1]), ["tune_scaling: must have at least 2 entries, not 1."]),
        (lambda c: c["merges"]["ta-val"].update(tune_scaling=[0, 1]), ["tune_scaling.0: must be more than 0, not 0."]),
        (lambda c: c["merges"].update({1: {"method": "ties"}}), ["merges.1: must be a text (in quotes), not 1."]),
        (
            lambda c: c["targets"]["full"]["quantizers"].update({"never/swept": {"method": "rtn"}}),
            ["targets.full.quantizers.never/swept", "part of a path"],
        ),
        (lambda c: c["targets"]["full"]["sweeps"].append({"bits": 4}), ["sweeps.7.bits: must be a list, e.g. [4], not 4."]),
        (
            lambda c: c["quantizers"]["epmq"].update(solver="near"),
            ['epmq.solver: must be one of "gptq", "nearest", not "near".'],
        ),
        (lambda c: c["quantizers"]["epmq"].update(fit_bias="yes"), ["must be true or false, not"]),
        (lambda c: tuned(c, anchor=[1]), ["quantizers.epmq.tune.anchor: must have at least 2 entries, not 1."]),
        (lambda c: tuned(c, anchors=[1, 2]), ["epmq.tune.anchors", 'no option "anchors"', 'Did you mean "anchor"?']),
        (lambda c: tuned(c, solver=[1, 2]), ["epmq.tune.solver: solver is no number."]),
        (lambda c: tuned(c, fit_bias=[0, 1]), ["epmq.tune.fit_bias: fit_bias is no number."]),
        (lambda c: tuned(c, bits=[2, 4]), ["epmq.tune.bits: bits is nothing to choose by accuracy."]),
        (lambda c: tuned(c, anchor=[-1, 1]), ["epmq.tune.anchor: must be at least 0, not -1."]),
        (
            lambda c: c["quantizers"]["epmq"].update(anchor=1),
            ["epmq.tune.anchor: anchor is both given and tuned.", "Keep one of the two."],
        ),
        (
            lambda c: refined(c, method="destill"),
            ["distilled.refine", 'unknown refinement "destill"', 'Did you mean "distill"?'],
        ),
        (lambda c: refined(c, step=3), ['distilled.refine.step: unknown key "step"', 'Did you mean "steps"?']),
        (
            lambda c: c["quantizers"]["distilled"].update(merges=["wudy"]),
            ["quantizers.distilled.merges", 'unknown merge "wudy"', 'Did you mean "wudi"?'],
        ),
        (
            lambda c: c["targets"]["full"]["merges"]["regmean"].update(calibrate_singular_values={}),
            ["merges.regmean.calibrate_singular_values", "Remove it."],
        ),
        (lambda c: c.update(seeds=["a"]), ["seeds.0", 'must be a whole number of at least 0, not "a"']),
        (lambda c: c.update(bits=[5]), ["bits.0", "must be one of 2, 3, 4, 8, 16, not 5"]),
        (lambda c: c.update(suite="../x"), ["suite", '"../x" does not fit', "Letters, digits"]),
        (lambda c: c.update(strict=True), ["strict", 'no published numbers of suite "mini"', "Remove it"]),
        (lambda c: c["merges"].update({"a b": {"method": "ties"}}), ["merges.a b", '"a b" does not fit', "part of a path"]),
        (
            lambda c: c["merges"].update(x={"method": "tise"}),
            ["merges.x", 'unknown merging method "tise"', 'Did you mean "ties"?'],
        ),
        (
            lambda c: c["merges"].update(x={"method": "ties", "densty": 0.2}),
            ["merges.x", '"densty"', 'Did you mean "density"?'],
        ),
        (lambda c: c["merges"].update(x={"method": "ties", "density": 2}), ["merges.x.density", "2"]),
        (
            lambda c: c["merges"].update(x={"method": "task_arithmetic", "scaling": [0.1, 0.2]}),
            ["merges.x", "4 values expected", "digits, textures, signs, landuse", "2 given"],
        ),
        (
            lambda c: c["merges"].update(x={"method": "simple_average", "tune_scaling": [0.1, 0.2]}),
            ["merges.x.tune_scaling", "no scaling"],
        ),
        (
            lambda c: c["merges"].update(x={"method": "ties", "scaling": 1, "tune_scaling": [0.1, 0.2]}),
            ["merges.x.scaling", "both given and tuned"],
        ),
        (lambda c: c["quantizers"].update(x={"method": "gtpq"}), ["quantizers.x", 'Did you mean "gptq"?']),
        (lambda c: c["quantizers"].update(x={"method": "epmq", "anchor": -1}), ["quantizers.x.anchor", "-1"]),
        (lambda c: c["quantizers"].update(x={"method": "epmq", "anchr": 1}), ["quantizers.x", 'Did you mean "anchor"?']),
        (lambda c: c["quantizers"].update(x={"method": "rtn", "bits": 5}), ["quantizers.x.bits", "5"]),
        (lambda c: c["quantizers"].update(x={"method": "rtn", "bits": "4"}), ["quantizers.x.bits", 'not "4"']),
        (
            lambda c: c.update(group_sizes=[100]),
            ["quantizers.rtn", "group size 100 does not divide", "encoder.layers.0.self_attn.q_proj"],
        ),
        (lambda c: c["targets"]["full"]["sweeps"].append({"merges": ["tta"]}), ["targets.full.sweeps", 'Did you mean "ta"?']),
        (lambda c: c["targets"]["full"]["sweeps"].append({"quantizers": ["aqw"]}), ['Did you mean "awq"?']),
        (
            lambda c: c["targets"]["full"]["merges"].update(ta={"method": "ties"}),
            ["targets.full.merges", '"ta" is a recipe of the'],
        ),
        (lambda c: c["targets"].update(ful={"sweeps": [{}]}), ["targets", '"ful"', 'Did you mean "full"?']),
        (lambda c: c.update(experts={"source": "locl"}), ["experts", 'Did you mean "local"?']),
        (
            lambda c: c.update(experts={"source": "local", "path": "/nowhere/{task}"}),
            ["experts.path", 'no folder "/nowhere/digits"', "Give a folder"],
        ),
    ],
)
def test_bad_configs(change, words):
    with pytest.raises(ConfigError) as caught:
        load_suite(changed(change))
    for word in words:
        assert word in str(caught.value)


def test_a_folder_without_weights_is_named(tmp_path):
    (tmp_path / "digits").mkdir()
    config = changed(lambda c: c.update(experts={"source": "local", "path": f"{tmp_path}/{{task}}"}))
    with pytest.raises(ConfigError, match=r"digits\" has no open_clip_config\.json"):
        load_suite(config)


def test_duplicate_keys_are_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("merges:\n  ta: {method: ties}\n  ta: {method: task_arithmetic}\n")
    with pytest.raises(ConfigError, match=r'twice\.yaml, lines 2 and 3: key "ta" stands twice'):
        read_config(path)


def test_ids_change_with_what_matters_and_with_nothing_else():
    def ids(change=lambda c: None):
        suite = load_suite(changed(change))
        return [(m.id, q.path) for m, q in suite.targets["default"].pairs]

    before = ids()
    assert len(set(before)) == len(before)
    assert ids(lambda c: c.update(seeds=[7])) == before
    assert ids(lambda c: c["merges"].update(ta={"method": "task_arithmetic", "scaling": 0.31}))[0] != before[0]

    def rename(config):
        del config["quantizers"]["distilled"]
        config.update(merges={"other": config["merges"]["ta"]}, targets={})

    assert (renamed := ids(rename)) == before[: len(renamed)]
    assert all(a[0] != b[0] for a, b in zip(ids(lambda c: c["base"].update(seed=1)), before, strict=True))


def test_parsing_a_config_imports_no_torch():
    import subprocess
    import sys

    code = (
        "import sys; from pmqbench.config import *; load_suite(read_config('config/mini.yaml')); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_conda_environment_equals_the_lock():
    import re
    import tomllib

    pins = re.findall(r"^([a-z0-9-]+)==([^ ]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    lock = dict(reversed(pins))  # of two pins of a package, the first is for Python 3.11, the environment's
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    direct = [re.match(r"[A-Za-z0-9_-]+", requirement)[0] for requirement in needed]
    (pip,) = [part["pip"] for part in read_config(ROOT / "envs" / "pmqbench.yaml")["dependencies"] if isinstance(part, dict)]
    assert dict(line.split("==") for line in pip) == {name.replace("_", "-"): lock[name.replace("_", "-")] for name in direct}


def test_shared_recipes_merge_and_null_takes_one_away():
    config = read_config(ROOT / "config" / "clip-vit-b32-ta8.yaml")
    config |= {
        "group_sizes": ["channel"],
        "merges": {"ties": None},
        "quantizers": {"awq": None, "epmq-expert": None, "epmq": {"anchor": 1}},
    }
    target = load_suite(config).targets["default"]
    assert [(merge.name, quantizer.name) for merge, quantizer in target.pairs] == [
        ("ta", "rtn"),
        ("ta", "gptq"),
        ("ta", "epmq"),
    ]
    assert target.pairs[2][1].method.anchor == 1


def test_the_schema_has_no_words_that_json_schema_does_not_know():
    """An unquoted comma in a description would become a key."""
    from jsonschema import Draft202012Validator

    words = set(Draft202012Validator.VALIDATORS) | {"$schema", "$defs", "title", "description", "default"}

    def unknown(schema):
        for key, part in schema.items():
            if key not in words:
                yield key
            for inner in part.values() if key in ("properties", "$defs") else [part]:
                if isinstance(inner, dict) and key != "default":
                    yield from unknown(inner)

    assert list(unknown(read_config(ROOT / "pmqbench" / "schema.yaml"))) == []


OWN = {"name": "mine", "classnames": ["a", "b"], "templates": ["a {}"], "source": {"name": "local", "path": "."}}


def own(**changed):
    return [OWN, {**OWN, "name": "other"} | changed]


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ("ta9", ["tasks", 'unknown task list "ta9"', 'Did you mean "ta8"?']),
        (own(name="mine", templates=["the {}"]), ["tasks", '"mine" stands twice']),
        (own(name="average"), ["tasks.1", 'no task can be called "average", which is a column of leaderboards']),
        (own(name="base"), ["tasks.1", 'no task can be called "base", which is an input of models']),
        (own(name="a/b"), ["tasks.1.name", '"a/b" cannot be part of a path']),
        (own(templates=["no gap"]), ["tasks.1", "no gap"]),
        (own(classnames=["a", "a"]), ["tasks.1.classnames", '"a" stands twice']),
        (own(source={"name": "locl"}), ["source", 'Did you mean "local"?']),
        (own(source={"name": "local"}), ["tasks.1.source", '"path" is missing']),
        (own(source={"name": "local", "path": ".", "imgae": "i"}), ["tasks.1.source", 'Did you mean "image"?']),
        (own(source={"name": "local", "path": "nowhere"}), ["tasks.1.source.path", 'there is no folder "', 'nowhere"']),
    ],
)
def test_bad_tasks(tasks, words):
    config = read_config(ROOT / "config" / "clip-vit-b32-ta8.yaml") | {"tasks": tasks}
    with pytest.raises(ConfigError) as caught:
        load_suite(config)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"recipes": "papr"}, ["recipes", "no pmqbench/shared_recipes/papr.yaml", 'Did you mean "paper"?']),
        ({"experts": {"source": "hub", "id": "owner/one"}}, ["experts.id", "one repository", "{task}"]),
        ({"experts": {"source": "hub", "id": "../{task}"}}, ["experts.id", "no id of a repository"]),
        ({"experts": {"source": "hub", "id": "o/{task}", "revisions": {"mnis": "x"}}}, ["revisions", 'Did you mean "mnist"?']),
        (
            {"group_sizes": [100]},
            ["quantizers.rtn", "group size 100 does not divide", "encoder.layers.0.self_attn.q_proj (768"],
        ),
    ],
)
def test_bad_paper_configs(changed, words):
    config = read_config(ROOT / "config" / "clip-vit-b32-ta8.yaml") | changed
    with pytest.raises(ConfigError) as caught:
        load_suite(config)
    assert [word for word in words if word not in str(caught.value)] == []
