"""A stage's code is what its script can reach: every import counts, words do not, and plumbing is named with a reason."""

import ast
import importlib.util
import inspect
import re
import textwrap
from pathlib import Path

import pytest

from pmqbench import code_hash as hashing
from pmqbench.evaluation.base import PROTOCOLS

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A script that uses pkg.a, which imports pkg.b inside a function; pkg.c stands alone, pkg.errors is plumbing."""
    folder = tmp_path / "pkg"
    (tmp_path / "scripts").mkdir()
    folder.mkdir()
    (tmp_path / "scripts/job.py").write_text("from pkg.a import f\n")
    (folder / "__init__.py").write_text("")
    (folder / "a.py").write_text("from pkg.errors import E\ndef f():\n    from pkg import b\n    return b\n")
    (folder / "b.py").write_text("X = 1\n")
    (folder / "c.py").write_text("import json\n")
    (folder / "errors.py").write_text("E = 1\n")
    monkeypatch.setattr(hashing, "ROOT", tmp_path)
    monkeypatch.setattr(hashing, "PACKAGE", "pkg")
    return folder


def fresh(*arguments):
    for cached in (hashing._imports, hashing._digest, hashing.code_hash):
        cached.cache_clear()
    return hashing.code_hash("job", *arguments)


@pytest.mark.parametrize("path", ["b.py", "a.py", "../scripts/job.py", "__init__.py"])
def test_the_hash_follows_every_import(package, path):
    before = fresh()
    (package / path).write_text((package / path).read_text() + "Y = 2\n")
    assert fresh() != before


@pytest.mark.parametrize("path", ["c.py", "errors.py"])
def test_what_the_script_cannot_reach_and_plumbing_do_not_count(package, path):
    before = fresh()
    (package / path).write_text("Z = 3\n")
    assert fresh() == before


def test_a_module_that_a_recipe_names_counts(package):
    before = fresh("pkg.c")
    assert before != fresh()
    (package / "c.py").write_text("import os\n")
    assert fresh("pkg.c") != before
    with pytest.raises(ModuleNotFoundError, match=r"pkg\.cc"):
        fresh("pkg.cc")


def test_words_and_layout_do_not_count(package):
    before = fresh()
    (package / "b.py").write_text('"""A docstring."""\n# a comment\nX = (\n    1\n)\n"""Of X."""\n')
    assert fresh() == before
    (package / "b.py").write_text('X = "1"\n')
    assert fresh() != before


def test_imports_for_type_checkers_do_not_count(package):
    (package / "c.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg import b\n")
    before = fresh("pkg.c")
    (package / "b.py").write_text("X = 1\n\nclass Y: ...\n")
    (package / "a.py").write_text("")
    (package.parent / "scripts/job.py").write_text("")
    assert fresh("pkg.c") != before
    before = fresh("pkg.c")
    (package / "b.py").write_text("X = 2\n")
    assert fresh("pkg.c") == before


def test_every_script_is_covered_with_all_it_imports():
    """Whatever stands behind `import` or `from` in the text of a reached file is reached too, or plumbing."""
    for script in SCRIPTS:
        files = hashing.reached(script)
        step = ROOT / "pmqbench/steps" / f"{script}.py"
        assert (step if step.is_file() else ROOT / "scripts" / step.name) in files
        for file in files:
            for name in imported(file):
                path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
                assert path in files or (path.parent.name == "pmqbench" and path.stem in hashing.PLUMBING), (script, file, name)


def imported(file):
    """Modules of the package that the text of a file imports at run time, found by words instead of by syntax."""
    text = re.sub(r"^if TYPE_CHECKING:\n((    .*)?\n)+", "", file.read_text(), flags=re.MULTILINE)
    for package, names in re.findall(r"^ *from (pmqbench[\w.]*) import \(?([\w, \n]*)", text, re.MULTILINE):
        for name in [package, *(f"{package}.{name.strip()}" for name in names.split(","))]:
            if ROOT.joinpath(*name.split(".")).with_suffix(".py").is_file():
                yield name


def test_no_import_is_hidden_from_the_hash():
    """Relative imports are not followed; what is imported by name is named by the stages and by the plots' rule.

    `processes.py` imports in other processes the step that started them.
    """
    by_name = set()
    for path in (ROOT / "pmqbench").rglob("*.py"):
        text = path.read_text()
        assert not any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(ast.parse(text))), path
        if "import_module(" in text or "__import__(" in text:
            by_name.add(path.relative_to(ROOT / "pmqbench").as_posix())
    assert by_name == {"registry.py", "reporting/plot_data.py", "processes.py"}


def test_plumbing_exists_and_has_a_reason():
    for name, reason in hashing.PLUMBING.items():
        assert (ROOT / "pmqbench" / f"{name}.py").is_file()
        assert len(reason.split()) > 2


def test_the_stages_that_were_missed_are_covered():
    def names(script, *modules):
        return {path.relative_to(ROOT).as_posix() for path in hashing.reached(script, *modules)}

    tuning = names("tune_scaling", "pmqbench.merging.ties", "pmqbench.evaluation.protocols.text_to_text")
    assert "pmqbench/merging/ties.py" in tuning
    assert "pmqbench/torch_setup.py" in tuning
    assert any("text_to_text" in name for name in tuning)
    assert "pmqbench/sources/mini_training.py" in names("fetch_base", "pmqbench.sources.mini")
    assert "pmqbench/reporting/statistics.py" not in tuning
    assert "pmqbench/errors.py" not in tuning


def test_of_a_function_the_stage_has_its_code_and_what_it_imports(package):
    def hashed(body):
        path = package.parent / f"protocol{len(seen)}.py"
        path.write_text(
            f"class P:\n    def batches(self):\n        {body}\n    def metric(self):\n        return {len(seen)}\n"
        )
        spec = importlib.util.spec_from_file_location("protocol", path)
        spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
        seen.append(hashing.code_hash("job", function=module.P().batches))
        return seen[-1]

    seen = [fresh()]
    first = hashed("from pkg import c; return c")
    assert first != seen[0]
    assert hashed("'Words.'; from pkg import c; return c  # and a comment") == first
    assert hashed("from pkg import c; return c, 2") != first
    (package / "c.py").write_text("import os\n")
    fresh()
    assert hashed("from pkg import c; return c") != first


@pytest.mark.parametrize("name", PROTOCOLS.names())
def test_calibration_has_the_code_of_its_batches_and_not_of_the_metric(name):
    protocol = PROTOCOLS.get(name)
    files = hashing.reached("quantize_model", "pmqbench.quantization.methods.gptq", function=protocol.calibration_batches)
    assert ROOT.joinpath(*protocol.__module__.split(".")).with_suffix(".py") not in files
    body = ast.parse(textwrap.dedent(inspect.getsource(protocol.calibration_batches)))
    used = {node.module for node in ast.walk(body) if isinstance(node, ast.ImportFrom)}
    assert used
    assert all(ROOT.joinpath(*module.split(".")).with_suffix(".py") in files for module in used)


@pytest.mark.parametrize("path", sorted([*ROOT.glob("scripts/*.py"), *ROOT.glob("pmqbench/steps/*.py")]), ids=str)
def test_scripts_and_steps_spell_no_path_of_the_results(path):
    tree = ast.parse(path.read_text())
    said = [ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, ast.Module | ast.FunctionDef)]
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert not [text for text in texts if "results" in text and text not in said]
