"""Which file and line an error of a config stands in, with several files and values of the command line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pmqbench.config import load_checked
from pmqbench.config_files import longest_path, merged, read_file, typed
from pmqbench.errors import ConfigError

ROOT = Path(__file__).parents[1]
BASE = """\
suite: mine
family: open_clip
base: {source: mini}
experts: {source: mini}
tasks: [digits, textures]
merges:
  ta: {method: task_arithmetic}
  ta-0.5:
    method: task_arithmetic
    scaling: 0.5
quantizers:
  rtn: {method: rtn}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes config files into the working folder: `write(first=..., second=...)` -> their absolute paths."""
    monkeypatch.chdir(tmp_path)

    def files(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        return [tmp_path / f"{name}.yaml" for name in texts]

    return files


def error_of(paths, **command_line):
    """The message for files merged as Snakemake merges them, with values of the command line on top."""
    config = merged([*(read_file(path).value for path in paths), command_line])
    with pytest.raises(ConfigError) as caught:
        load_checked(config, paths)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("suite: x\nbits: [1\nmerges: 2\n", r"one\.yaml, line 3, column 7: not valid YAML: .*line 2"),
        ("suite: x\nmerges:\n\tta: {method: ties}\n", r"one\.yaml, line 3, column 1: not valid YAML: .*cannot start any token"),
        ("suite: a: b\n", r"one\.yaml, line 1, column 9: not valid YAML"),
        ("suite: x\n# \x01\n", r"one\.yaml, line 2: not valid YAML"),
        ("suite: x\nbase:\n  seed: 1\n  seed: 2\n", r'one\.yaml, lines 3 and 4: key "seed" stands twice'),
        ("base: {seed: 1, seed: 2}\n", r'one\.yaml, lines 1 and 1: key "seed" stands twice'),
        ("- suite\n", r"one\.yaml, line 1: the file must hold keys and values"),
    ],
)
def test_files_that_do_not_parse(write, text, message):
    (path,) = write(one=text)
    with pytest.raises(ConfigError, match=f"^{message}"):
        read_file(path)


def test_files_that_cannot_be_read(write, tmp_path):
    (path,) = write(one="")
    path.write_bytes(b"suite: \xff")
    with pytest.raises(ConfigError, match=r"^one\.yaml: cannot be read"):
        read_file(path)
    with pytest.raises(ConfigError, match=r"^none\.yaml: there is no such config file"):
        read_file(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"^/nowhere/none\.yaml: there is no such config file"):
        read_file("/nowhere/none.yaml")


def test_yaml_merge_keys_and_empty_files_are_read(write):
    one, two = write(one="a: &a {b: 1}\nc:\n  <<: *a\n  d: 2\n", two="# nothing\n")
    assert read_file(one).value["c"] == {"b": 1, "d": 2}
    assert read_file(two).value == {}


def test_an_error_names_file_and_line(write):
    paths = write(one=BASE.replace("scaling: 0.5", "scaling: 50"))
    assert error_of(paths).startswith("one.yaml, line 10: merges.ta-0.5.scaling: must be at most 10, not 50.")


@pytest.mark.parametrize(
    ("second", "place"),
    [
        ("merges: {ta: {scaling: 50}}\n", "two.yaml, line 1: merges.ta.scaling: "),
        ("seeds: [1]\n\nmerges:\n  ta: {scalng: 1}\n", "two.yaml, line 4: merges.ta.scalng: unknown key"),
        ("bits: [4, 5]\n", "two.yaml, line 1: bits.1: "),
        ("seeds: [1]\ntasks: [digits, texture]\n", "two.yaml, line 2: tasks.1: unknown task"),
        ("merges: {ta: {}}\nfamily: open_clap\n", "two.yaml, line 2: family: "),
    ],
)
def test_of_two_files_the_one_with_the_key_is_named(write, second, place):
    assert error_of(write(one=BASE, two=second)).startswith(place)


def test_a_key_of_the_first_file_is_not_blamed_on_the_second(write):
    first = BASE.replace("rtn: {method: rtn}", "rtn: {method: rtm}")
    paths = write(one=first, two="merges: {ta: {scaling: 0.4}}\n")
    assert error_of(paths).startswith("one.yaml, line 12: quantizers.rtn: unknown quantization method")


def test_a_missing_key_names_all_files(write):
    paths = write(one=BASE.replace("family: open_clip\n", ""), two="seeds: [1]\n")
    assert error_of(paths).startswith('one.yaml and two.yaml: key "family" is missing.')


def test_shared_recipes_are_named_where_they_are_wrong(write, monkeypatch, tmp_path):
    shared, path = write(shared="bits: [4]\nmerges:\n  ties: {method: tise}\n", one="recipes: shared\n" + BASE)
    monkeypatch.setattr("pmqbench.config.RECIPES", shared.parent)
    assert error_of([path]).startswith('shared.yaml, line 3: merges.ties: unknown merging method "tise"')
    (path,) = write(one="recipes: shared\n" + BASE + "  ties: {}\nreference: aqw\n")
    assert error_of([path]).startswith("one.yaml, line 14: quantizers.ties: ")


def test_the_command_line_is_named(write):
    paths = write(one=BASE + "bits: [4]\n")
    assert error_of(paths, bits=["5"]).startswith("--config on the command line: bits.0: must be one of 2, 3, 4, 8, 16, not 5.")
    assert error_of(paths, merges={"ta": {"scalng": "1"}}).startswith("--config on the command line: merges.ta.scalng")
    assert error_of(paths, bits=["2"], family="open_clap").startswith("--config on the command line: family: ")


def test_lists_of_the_command_line_are_read_as_yaml(write):
    paths = write(one=BASE + "bits: [4]\n")
    config = merged([read_file(paths[0]).value, {"bits": ["2", "8"], "merges": {"ta": {"scaling": "0.25"}}}])
    suite = load_checked(config, paths)
    pairs = suite.targets["default"].pairs
    assert [quantizer.method.bits for _, quantizer in pairs[:2]] == [2, 8]
    assert pairs[0][0].method.scaling == 0.25


def test_only_texts_of_the_command_line_are_read_again():
    written = {"a": "4", "b": ["4"], "c": {"d": "5"}}
    assert typed(written, written) == written
    given = {"a": "4", "b": ["8", "x y", "true"], "c": {"d": "5", "e": "6"}, "f": {"g": ["null", "1.5"]}}
    expected = {"a": "4", "b": [8, "x y", True], "c": {"d": "5", "e": 6}, "f": {"g": [None, 1.5]}}
    assert typed(given, written) == expected


def test_keys_may_hold_dots():
    value = {"a": {"x": 1}, "a.b": {"c": [{"d": 1}, {"e": 2}]}, "a.b.c.1": 3}
    assert longest_path(value, "a.b.c.1.e") == ("a.b", "c", 1, "e")
    assert longest_path(value, "a.x.y") == ("a", "x")
    assert longest_path(value, "b") == ()


@pytest.mark.parametrize("entry", ["bits=[2]", "seeds=[0, 3]", "merges={ta: {scaling: 0.2}}", "calibration={samples: 8}"])
def test_snakemake_hands_over_what_the_command_line_says(write, entry):
    """Snakemake's own reading of the command line, so that a change of it shows."""
    import yaml
    from snakemake.cli import parse_config

    paths = write(one=BASE)
    given = parse_config([entry])
    name, text = entry.split("=", 1)
    written = read_file(paths[0]).value
    assert typed(merged([written, given]), written)[name] == merged([written, {name: yaml.safe_load(text)}])[name]


def test_check_answers_by_file_and_line(write):
    paths = write(one=BASE, bad="bits: [4\n")
    run = {"capture_output": True, "text": True, "env": os.environ | {"PYTHONPATH": str(ROOT)}}
    command = [sys.executable, "-m", "pmqbench.cli", "check"]
    good = subprocess.run([*command, "one.yaml"], **run)
    assert (good.returncode, good.stderr) == (0, "")
    for wrong, message in {"bad.yaml": r"bad\.yaml, line 2", "none.yaml": r"none\.yaml: there is no such"}.items():
        done = subprocess.run([*command, str(paths[0]), wrong], **run)
        assert done.returncode == 2
        assert re.search(message, done.stderr)
        assert "Traceback" not in done.stderr
