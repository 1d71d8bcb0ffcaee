"""Configs: every change of the shipped ones, as values and as bytes, and what YAML itself can do to a reader."""

import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pmqbench.config import load_checked
from pmqbench.config_files import read_file
from pmqbench.errors import PMQError
from pmqbench.recipes import Suite
from pmqbench.workflow.layout import Layout
from tests.fuzz.inputs import KEYS, changed, damaged, values
from tests.fuzz.survival import outcome

CONFIG = Path(__file__).parents[2] / "config"
SHIPPED = ("mini", "flan-t5-base-glue", "clip-vit-b32-ta8")
DOCUMENTS = {name: read_file(CONFIG / f"{name}.yaml").value for name in SHIPPED}
NINE = ", ".join(["{0}"] * 9)
BOMB = "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [{NINE.format(f'*a{i - 1}')}]" for i in range(1, 13))])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("configs") / "config.yaml"


def check(config, file):
    """The suite that a config makes, or the error; all of a suite's artefacts are below results/."""
    made = outcome(lambda: Layout(load_checked(config, [file])))
    if isinstance(made, PMQError):
        return made
    folders = [model.folder for model in made.models.values()]
    records = [made.record_file(model, made.tasks[task]) for model in made.models.values() for task in model.tasks]
    for path in map(Path, [*folders, *records]):
        assert path.parts[0] == "results", path
        assert ".." not in path.parts, path
    return made


@pytest.mark.parametrize("name", SHIPPED)
@given(data=st.data())
def test_changed_values(name, data, file):
    config = data.draw(changed(DOCUMENTS[name], KEYS))
    file.write_text(yaml.safe_dump(config, allow_unicode=False, sort_keys=False), encoding="utf-8")
    read = outcome(read_file, file)
    if not isinstance(read, PMQError):
        check(read.value, file)


@given(data=st.data())
def test_changed_bytes(data, file):
    file.write_bytes(data.draw(damaged((CONFIG / "mini.yaml").read_bytes())))
    read = outcome(read_file, file)
    if not isinstance(read, PMQError):
        check(read.value, file)


@given(overrides=st.data())
def test_overrides_on_the_command_line(overrides):
    """`--config key=value`: Snakemake lays them on top, texts inside lists and mappings as texts."""
    key = overrides.draw(st.sampled_from(sorted(DOCUMENTS["mini"])))
    config = copy.deepcopy(DOCUMENTS["mini"])
    config[key] = overrides.draw(values() | changed(config[key]))
    made = check(config, CONFIG / "mini.yaml")
    assert not isinstance(made, PMQError) or "mini.yaml" in made.where or "command line" in made.where


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "suite: &a [*a]",
        "suite: " + "[" * 5000,
        "suite: " + "[" * 5000 + "]" * 5000,
        "suite: " + "{a: " * 3000 + "1" + "}" * 3000,
        "- " * 3000 + "a",
        "suite: !!python/object/apply:os.system ['true']",
        "suite: !!timestamp x",
        "suite: 2001-99-99",
        "suite: !!int x",
        "suite: !!float x",
        "suite: !!bool x",
        "suite: !!binary x",
        "suite: !!set {a, b}",
        "suite: !!omap [a: 1]",
        "suite: =",
        "suite: 1:99:99:99",
        f"seeds: [{'9' * 5000}]",
        "seeds: [.inf, .nan]",
        "? [a, b]\n: c",
        "? {a: b}\n: c",
        "<<: [a]",
        "<<: {suite: a}\nsuite: b",
        "\tsuite: a",
        "suite: a\n---\nsuite: b",
        "%YAML 9.9\n---\nsuite: a",
        "suite: *nowhere",
        "suite: a\nsuite: b",
        "",
        "\ufeffsuite: a",
        "suite: '\\ud800'",
        'suite: "\\ud800"',
        "suite: a\x00b",
    ],
)
def test_what_yaml_can_do(text, file):
    file.write_text(text, encoding="utf-8")
    made = outcome(lambda: load_checked(read_file(file).value, [file]))
    assert not isinstance(made, Suite)
