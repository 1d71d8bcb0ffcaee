"""Rooms know each other by name: what is asked of a family or protocol is what its description names, and a file adds one."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pmqbench.evaluation.base import PROTOCOLS, EvaluationProtocol
from pmqbench.families.base import FAMILIES, Family, ZeroShotFamily

ROOT = Path(__file__).parents[1]
ASKING = [
    path
    for folder in (
        "scripts",
        "rules",
        "benchmarks",
        *(f"pmqbench/{name}" for name in ("workflow", "steps", "sources", "quantization")),
    )
    for path in sorted((ROOT / folder).rglob("*.*"))
    if path.suffix in (".py", ".smk")
] + [ROOT / "pmqbench/config.py"]


def asked(what):
    """Attributes that anyone reads of a variable or attribute called `what`."""
    found = {}
    for path in ASKING:
        for name in re.findall(rf"\b{what}\.([a-z]\w*)", path.read_text(encoding="utf-8")):
            found.setdefault(name, path)
    return found


def named(*descriptions):
    return {name for one in descriptions for name in (*vars(one), *one.__annotations__) if not name.startswith("_")}


def test_all_that_is_asked_of_a_family_is_named():
    found = asked("family")
    assert len(found) > 8
    assert {name: path for name, path in found.items() if name not in named(Family, ZeroShotFamily)} == {}


def test_all_that_is_asked_of_a_protocol_is_named():
    found = asked("protocol")
    assert len(found) > 5
    assert {name: path for name, path in found.items() if name not in named(EvaluationProtocol)} == {}


@pytest.mark.parametrize("name", FAMILIES.names())
def test_a_family_has_all_that_is_named(name):
    family = FAMILIES.get(name)
    wanted = named(Family, ZeroShotFamily) if PROTOCOLS.get(family.protocol).uses_heads else named(Family)
    assert [one for one in sorted(wanted) if not hasattr(family, one)] == []


@pytest.mark.parametrize("name", PROTOCOLS.names())
def test_a_protocol_has_all_that_is_named(name):
    assert [one for one in sorted(named(EvaluationProtocol)) if not hasattr(PROTOCOLS.get(name), one)] == []


def mentions(word):
    """Files of the library, the rules and the scripts that hold the word."""
    files = [path for folder in ("pmqbench", "rules", "scripts") for path in (ROOT / folder).rglob("*.*")]
    texts = {path.relative_to(ROOT).as_posix(): path for path in files if path.suffix in (".py", ".smk", ".json")}
    return {name for name, path in texts.items() if re.search(rf"\b{word}\b", path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("word", ["BertFamily", "families.bert", '"bert"'])
def test_nothing_but_its_own_file_names_the_bert_family(word):
    assert mentions(word) <= {"pmqbench/families/bert.py"}


@pytest.mark.parametrize("word", ["ZeroShotText", "protocols.zero_shot_text"])
def test_nothing_but_its_own_file_names_the_text_protocol(word):
    assert mentions(word) <= {"pmqbench/evaluation/protocols/zero_shot_text.py"}


def test_data_know_no_family():
    names = "|".join(path.stem for path in (ROOT / "pmqbench/families").glob("*.py") if path.stem not in ("__init__", "base"))
    for path in (ROOT / "pmqbench/tasks").rglob("*.py"):
        assert not re.search(rf"pmqbench\.families\.({names})\b", path.read_text(encoding="utf-8")), path


def test_a_family_its_protocol_and_their_kind_of_task_are_one_file_each(tmp_path):
    """A copy of the library with three files more: the config takes them, and neither torch nor transformers is imported."""
    shutil.copytree(ROOT / "pmqbench", tmp_path / "pmqbench", ignore=shutil.ignore_patterns("__pycache__"))
    bert = (ROOT / "pmqbench/families/bert.py").read_text(encoding="utf-8")
    mine = bert.replace('register("bert")', 'register("mine")').replace('"zero_shot_text"', '"own"')
    (tmp_path / "pmqbench/families/mine.py").write_text(mine)
    text = (ROOT / "pmqbench/evaluation/protocols/zero_shot_text.py").read_text(encoding="utf-8")
    own = text.replace('register("zero_shot_text")', 'register("own")').replace("kinds.text_classification", "kinds.sayings")
    (tmp_path / "pmqbench/evaluation/protocols/own.py").write_text(own)
    kind = (ROOT / "pmqbench/tasks/kinds/text_classification.py").read_text(encoding="utf-8")
    (tmp_path / "pmqbench/tasks/kinds/sayings.py").write_text(
        kind.replace('register("text_classification")', 'register("sayings")')
    )
    suite = {
        "suite": "s",
        "family": "mine",
        "base": {"source": "hub", "id": "o/base"},
        "experts": {"source": "hub", "id": "o/{task}"},
        "tasks": [
            {
                "name": "news",
                "kind": "sayings",
                "input": "{text}",
                "classnames": ["a", "b"],
                "templates": ["{}"],
                "source": {"name": "hub_text", "id": "o/news"},
            }
        ],
        "merges": {"avg": {"method": "simple_average"}},
        "quantizers": {"rtn": {"method": "rtn"}},
    }
    code = (
        "import sys; from pmqbench.config import load_suite; from pmqbench.workflow.layout import Layout;"
        f"layout = Layout(load_suite({suite!r}));"
        "print(type(layout.protocol).__module__, len(layout.head_files(layout.suite.tasks)), layout.base_files()[-1]);"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    protocol, heads, last = done.stdout.splitlines()[0].split()
    assert (protocol, heads) == ("pmqbench.evaluation.protocols.own", "1")
    assert last.endswith("/tokenizer.json")
    assert done.stdout.splitlines()[1] == "[]"
