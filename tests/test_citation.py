"""Licence and citation say the same as the package."""

import tomllib
from pathlib import Path

import yaml

import pmqbench
from pmqbench.reporting.citation import BIBTEX

ROOT = Path(__file__).parents[1]


def test_licence_version_and_citation_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project["license"] == cited["license"] == "Apache-2.0"
    assert project["version"] == cited["version"] == pmqbench.__version__
    assert [(ROOT / name).read_text().split()[:3] for name in project["license-files"]] == [["Apache", "License", "Version"]]
    assert "2605.16882" in cited["references"][0]["url"]


def test_model_cards_cite_the_same():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (paper,) = cited["references"]
    software, article = BIBTEX.split("@article")
    for text, entry in ((software, cited), (article, paper)):
        names = (author.get("name") or f"{author['family-names']}, {author['given-names']}" for author in entry["authors"])
        assert f"{{{entry['title']}}}" in text
        assert " and ".join(names) in text
    assert f"version = {{{cited['version']}}}" in software
    assert paper["identifiers"][0]["value"] in article
