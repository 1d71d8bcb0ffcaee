"""Ids by property: a field that can change a number changes the id of all artefacts behind it and of no other; any other field
changes none. Configs are drawn at random; what stands behind what is written down here, apart from the code under test."""

import copy
import random

import pytest

from pmqbench.config import load_suite
from pmqbench.errors import ConfigError
from pmqbench.workflow.layout import Layout

TASKS = ("a", "b", "c")


def drawn(seed):
    """A random config of the hub, whose models are not trained here, or of the mini suite, whose are."""
    rng = random.Random(seed)
    trained = seed % 2 == 1
    tasks = list(TASKS[: rng.choice([2, 3])])
    definitions = [
        {
            "name": name,
            "classnames": [f"{name}{i}" for i in range(rng.randint(2, 4))],
            "templates": ["a {}", "the {}"][: rng.randint(1, 2)],
            "source": {"name": "mini", "seed": rng.randint(0, 9)} if trained else {"name": "hub", "id": f"o/{name}"},
        }
        for name in tasks
    ]
    return {
        "suite": "random",
        "family": "open_clip" if trained else "clip",
        "base": {"source": "mini", "seed": rng.randint(0, 9)} if trained else {"source": "hub", "id": "o/base"},
        "experts": {"source": "mini", "seed": rng.randint(0, 9)} if trained else {"source": "hub", "id": "o/{task}"},
        "tasks": definitions,
        "seeds": rng.sample(range(9), rng.randint(1, 3)),
        "bits": [rng.choice([2, 3, 4])],
        "batch_jobs": rng.random() < 0.5,
        "evaluation": {"batch_size": rng.choice([32, 64])},
        "calibration": {"samples": rng.choice([8, 16]), "batch_size": 8},
        "merges": {
            "ta": {"method": "task_arithmetic", "scaling": [round(rng.uniform(0.1, 0.9), 2) for _ in tasks]},
            "tuned": {"method": "ties", "tune_scaling": [0.2, 0.4], "density": rng.choice([0.2, 0.5])},
        },
        "quantizers": {
            "rtn": {"method": "rtn", "symmetric": rng.random() < 0.5},
            "gptq": {"method": "gptq", "damping": rng.choice([0.01, 0.1])},
        },
    }


def ids(config):
    """Artefact -> id, by what it is: ("data", task), ("merge", name), ("record", model, task) ..."""
    layout = Layout(load_suite(config))
    suite = layout.suite
    found = {("base",): layout.base}
    for task in suite.tasks:
        found |= {("data", task.name): task.data_id, ("head", task.name): layout.head_file(task)}
        found |= {("expert", task.name): suite.expert_id(task)}
    for merge, quantizer in suite.targets["default"].pairs:
        found[("merge", merge.name)] = merge.id
        for model in layout.quantized_models(merge, quantizer):
            found[("quantized", merge.name, quantizer.name, model.seed)] = model.folder
    for model in layout.models_of(suite.targets["default"]):
        names = (model.kind, model.merge and model.merge.name, model.quantizer and model.quantizer.name, model.seed)
        for task, file in zip(model.tasks, layout.record_files(model), strict=True):
            found[("record", *names, task)] = file
    return found


def behind(config, artefacts, *origins):
    """Those of the artefacts that the origins, or what is made of them, go into."""
    trained = config["base"]["source"] == "mini"
    hit = set(origins)

    def is_hit(*names):
        return any(name in hit for name in names)

    tasks = [task["name"] for task in config["tasks"]]
    data, prompts, metric = ([(kind, task) for task in tasks] for kind in ("data", "prompts", "metric"))
    rules = [(("base",), [*data, *prompts] if trained else [])]
    rules += [(("head", task), [("prompts", task), ("base",)]) for task in tasks]
    # An expert that is not trained here still gets the base's side files where it brings none.
    rules += [(("expert", task), [("base",), *([("data", task), ("head", task)] if trained else [])]) for task in tasks]
    experts = [("base",), *(("expert", task) for task in tasks)]
    rules += [(("merge", "ta"), experts), (("merge", "tuned"), [*experts, *data, *prompts, *metric])]
    for key in artefacts:
        if key[0] == "quantized":
            _, merge, quantizer, _ = key
            rules.append((key, [("merge", merge), ("quantizer", quantizer), *(data if quantizer == "gptq" else [])]))
    for key in artefacts:
        if key[0] == "record":
            _, kind, merge, quantizer, seed, task = key
            model = {"base": ("base",), "expert": ("expert", task), "merged": ("merge", merge)}.get(
                kind, ("quantized", merge, quantizer, seed)
            )
            rules.append((key, [model, ("data", task), ("head", task), ("prompts", task), ("metric", task)]))
    for key, made_of in rules:
        if is_hit(*made_of):
            hit.add(key)
    return hit & artefacts.keys()


def prompt(config):
    config["tasks"][0]["templates"] = ["one {}"]


def classname(config):
    config["tasks"][1]["classnames"][0] = "other"


def source(config):
    config["tasks"][0]["source"]["seed" if config["base"]["source"] == "mini" else "revision"] = (
        77 if config["base"]["source"] == "mini" else "x"
    )


def base(config):
    config["base"]["seed" if config["base"]["source"] == "mini" else "revision"] = (
        77 if config["base"]["source"] == "mini" else "x"
    )


def one_expert(config):
    if config["experts"]["source"] == "mini":
        config["experts"]["seed"] = 77
    else:
        config["experts"]["revisions"] = {"b": "x"}


def swap_values(config):
    config["merges"]["ta"]["scaling"] = [2.0, *config["merges"]["ta"]["scaling"][1:]]


MATTERS = {
    "a template": (prompt, [("prompts", "a")]),
    "a class name": (classname, [("data", "b"), ("prompts", "b")]),
    "a data source": (source, [("data", "a")]),
    "the base": (base, [("base",)]),
    "a value of a per-expert list": (swap_values, [("merge", "ta")]),
    "calibrated singular values": (lambda c: c["merges"]["ta"].update(calibrate_singular_values={}), [("merge", "ta")]),
    "an option of a tuned merge": (lambda c: c["merges"]["tuned"].update(density=0.9), [("merge", "tuned")]),
    "a candidate": (lambda c: c["merges"]["tuned"]["tune_scaling"].append(0.7), [("merge", "tuned")]),
    "an option of a quantizer": (lambda c: c["quantizers"]["gptq"].update(damping=0.5), [("quantizer", "gptq")]),
    "symmetry": (
        lambda c: c["quantizers"]["rtn"].update(symmetric=not c["quantizers"]["rtn"]["symmetric"]),
        [("quantizer", "rtn")],
    ),
    "bits": (lambda c: c.update(bits=[8]), [("quantizer", "rtn"), ("quantizer", "gptq")]),
    "group size": (lambda c: c.update(group_sizes=[16]), [("quantizer", "rtn"), ("quantizer", "gptq")]),
    "calibration samples": (lambda c: c["calibration"].update(samples=99), [("quantizer", "gptq")]),
    "calibration batch": (lambda c: c["calibration"].update(batch_size=99), [("quantizer", "gptq")]),
}


@pytest.mark.parametrize("seed", range(6))
def test_a_field_that_can_change_a_number_changes_what_is_behind_it_and_nothing_else(seed):
    config = drawn(seed)
    before = ids(config)
    for field, (change, origins) in MATTERS.items():
        edited = copy.deepcopy(config)
        change(edited)
        after = ids(edited)
        assert after.keys() == before.keys(), field
        changed = {key for key in before if before[key] != after[key]}
        expected = behind(config, before, *origins)
        assert expected, field
        assert changed == expected, field


@pytest.mark.parametrize("seed", range(6))
def test_an_experts_change_reaches_its_merges(seed):
    config = drawn(seed)
    edited = copy.deepcopy(config)
    one_expert(edited)
    origins = [("expert", task["name"]) for task in config["tasks"]] if seed % 2 else [("expert", "b")]
    before, after = ids(config), ids(edited)
    assert {key for key in before if before[key] != after[key]} == behind(config, before, *origins)


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_experts_is_part_of_a_merge(seed):
    config = drawn(seed)
    turned = copy.deepcopy(config)
    turned["tasks"].reverse()
    before, after = ids(config), ids(turned)
    same = {key for key in before if before[key] == after[key]}
    assert {("data", task["name"]) for task in config["tasks"]} <= same
    assert not {("merge", "ta"), ("merge", "tuned")} & same


HARMLESS = {
    "cores and job size": lambda c: c.update(batch_jobs=not c["batch_jobs"]),
    "batch of evaluation": lambda c: c["evaluation"].update(batch_size=1),
    "name of the suite": lambda c: c.update(suite="other"),
    "name of the reference": lambda c: c.update(reference="gptq"),
    "size of the published split": lambda c: c["tasks"][0].update(test_examples=12345),
}


@pytest.mark.parametrize("seed", range(6))
def test_a_field_that_cannot_changes_nothing(seed):
    config = drawn(seed)
    before = ids(config)
    for field, change in HARMLESS.items():
        edited = copy.deepcopy(config)
        change(edited)
        assert ids(edited) == before, field


@pytest.mark.parametrize("seed", range(2))
def test_a_whole_number_written_otherwise_changes_no_id(seed):
    config = drawn(seed)
    config["merges"]["tuned"]["tune_scaling"] = [1, 2]
    config["quantizers"]["epmq"] = {"method": "epmq", "anchor": 1, "alpha": 1}
    written = copy.deepcopy(config)
    written["merges"]["tuned"]["tune_scaling"] = [1.0, 2.0]
    written["quantizers"]["epmq"] = {"method": "epmq", "anchor": 1.0, "alpha": 1.0}
    for key in ("seeds", "bits"):
        written[key] = [float(number) for number in config[key]]
    assert repr(ids(written)) == repr(ids(config))


def test_a_display_name_changes_no_id():
    config = drawn(0)
    renamed = copy.deepcopy(config)
    renamed["merges"] = {f"my-{name}": merge for name, merge in config["merges"].items()}
    renamed["quantizers"] = {f"my-{name}": recipe for name, recipe in config["quantizers"].items()}
    assert sorted(ids(renamed).values()) == sorted(ids(config).values())


def test_equal_recipes_under_two_names_are_one_artefact_with_both_names():
    config = drawn(0)
    config["merges"]["again"] = copy.deepcopy(config["merges"]["ta"])
    config["quantizers"]["twin"] = copy.deepcopy(config["quantizers"]["gptq"])
    layout = Layout(load_suite(config))
    target = layout.suite.targets["default"]
    assert [merge.name for merge in target.merges] == ["ta", "tuned", "again"]
    names = {(model.merge.name, model.quantizer.name): model.id for model in layout.models_of(target) if model.quantizer}
    assert names[("ta", "gptq")] == names[("again", "twin")] == names[("again", "gptq")]
    assert len(layout.pairs) == 2 * 2


def test_reports_of_a_suite_and_of_a_target_cannot_meet():
    config = drawn(0) | {"targets": {"full": {"sweeps": [{"bits": [8]}]}}}
    reports = {target.report for target in load_suite(config).targets.values()}
    for suite in ("random-full", "random.full", "random_full"):
        assert load_suite(config | {"suite": suite}).targets["default"].report not in reports
    for name in {*reports, "random\n"} - {"random"}:
        with pytest.raises(ConfigError, match="suite"):
            load_suite(config | {"suite": name})
