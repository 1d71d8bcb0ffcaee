"""Methods of other packages: found by entry points, used like built-in ones, and part of what makes artefacts stale."""

import sys

import pytest

from pmqbench import code_hash as hashing
from pmqbench import plugins
from pmqbench.config import load_suite
from pmqbench.errors import ConfigError
from pmqbench.merging.base import MERGERS
from pmqbench.quantization.base import QUANTIZERS

MERGE = """
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from pmqbench.merging.base import Merger

from .parts import mean


@dataclass(frozen=True, kw_only=True)
class HalfWay(Merger):
    strength: Annotated[float, Field(ge=0, le=2)] = 0.5

    def start(self, models):
        deltas = lambda name: [models.delta(expert, name) for expert in range(len(models.labels))]
        return lambda name: models.base(name) + self.strength * mean(deltas(name))
"""
POINTS = """
[pmqbench.merging]
half_way = other_methods.half_way:HalfWay
gone = other_methods.gone:Gone
text = other_methods.parts:NAME
alias = other_methods.half_way:Merger
[pmqbench.quantization]
gptq = other_methods.half_way:HalfWay
[pmqbench.refinement]
half_way = other_methods.half_way:HalfWay
"""


def write_package(site, points=POINTS):
    """An installed package as pip leaves it: its modules, and a folder of metadata."""
    package, told = site / "other_methods", site / "other_methods-1.2.dist-info"
    for folder in (package, told):
        folder.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "half_way.py").write_text(MERGE)
    (package / "parts.py").write_text('NAME = "x"\n\ndef mean(values):\n    return sum(values) / len(values)\n')
    (package / "unused.py").write_text("")
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: other-methods\nVersion: 1.2\n")
    (told / "entry_points.txt").write_text(points)
    return package


def forget():
    for cached in (plugins.declared, plugins.roots, hashing._imports, hashing._digest, hashing.code_hash):
        cached.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with methods, for one test."""
    package = write_package(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    forget()
    yield package
    forget()
    MERGERS._classes.pop("half_way", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "other_methods"]:
        del sys.modules[name]


def config(merge):
    return {
        "suite": "s",
        "family": "open_clip",
        "base": {"source": "mini"},
        "experts": {"source": "mini"},
        "tasks": ["digits", "textures"],
        "merges": {"mine": merge},
        "quantizers": {"rtn": {"method": "rtn"}},
    }


def test_a_method_of_a_package_is_used_like_a_built_in_one(package):
    (merge,) = load_suite(config({"method": "half_way", "strength": 1.5})).targets["default"].merges
    assert merge.method.strength == 1.5
    assert merge.id.startswith("half_way-strength1.5-".replace("_", ""))
    assert {"half_way", "task_arithmetic"} <= set(MERGERS.names())
    with pytest.raises(ConfigError, match=r"merges\.mine\.strength: must be at most 2, not 3"):
        load_suite(config({"method": "half_way", "strength": 3}))


def test_what_is_declared_wrongly_is_answered_with_the_package(package):
    clash = r'^q: quantization method "gptq" is declared by pmqbench itself and by other-methods 1\.2\. Rename the entry point'
    with pytest.raises(ConfigError, match=clash):
        QUANTIZERS.get("gptq", "q")
    with pytest.raises(ConfigError, match=r'"gone": other-methods 1\.2 declares other_methods\.gone:Gone, which cannot be imp'):
        MERGERS.get("gone", "q")
    with pytest.raises(ConfigError, match=r'"text": other-methods 1\.2 declares other_methods\.parts:NAME, which is no method'):
        MERGERS.get("text", "q")
    with pytest.raises(ConfigError, match=r"half_way:Merger, which is defined in another package, pmqbench\.merging\.base\."):
        MERGERS.get("alias", "q")
    with pytest.raises(ConfigError, match=r'unknown merging method "halfway"\. Did you mean "half_way"\?'):
        MERGERS.get("halfway", "q")


def test_two_packages_with_one_name_are_refused(package):
    site = package.parent
    (site / "third-3.dist-info").mkdir()
    (site / "third-3.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: third\nVersion: 3\n")
    (site / "third-3.dist-info/entry_points.txt").write_text("[pmqbench.merging]\nhalf_way = third:X\n")
    forget()
    with pytest.raises(ConfigError, match=r"declared by (other-methods 1\.2|third 3) and by (third 3|other-methods 1\.2)\."):
        MERGERS.get("half_way", "q")


def test_an_edit_of_the_package_makes_its_artefacts_stale(package):
    def fresh():
        forget()
        return hashing.code_hash("merge_experts", MERGERS.get("half_way").__module__)

    built_in, before = hashing.code_hash("merge_experts", "pmqbench.merging.ties"), fresh()
    for name, counts in {"parts.py": True, "half_way.py": True, "__init__.py": True, "unused.py": False}.items():
        text = (package / name).read_text()
        (package / name).write_text(text + "\nEDITED = 1\n")
        assert (fresh() != before) is counts, name
        (package / name).write_text(text + '\n"""Words."""\n')
        assert fresh() == before, name
    assert hashing.code_hash("merge_experts", "pmqbench.merging.ties") == built_in


def test_the_hash_does_not_depend_on_where_a_package_is_installed(package, tmp_path, monkeypatch):
    before = hashing.code_hash("merge_experts", "other_methods.half_way")
    (package.parent).rename(tmp_path / "elsewhere")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    forget()
    assert hashing.code_hash("merge_experts", "other_methods.half_way") == before
