"""Our numbers beside published ones, on synthetic records, and the gate before merging."""

import csv

import pytest

from pmqbench.errors import DataError
from pmqbench.files import write_json
from pmqbench.records import Record
from pmqbench.reporting.gates import base_warnings, check_experts, gate_warnings, published_warnings, refuse
from pmqbench.reporting.published import AGREES, AVERAGE, DIFFERS, NOT_RUN, judge
from pmqbench.reporting.reproduction import COLUMNS, compare_published, write_reproduction
from pmqbench.reporting.terminal import show

TOLERANCES = {"digits": 0.5, "textures": 0.5, "signs": 0.5, "landuse": 4.0, AVERAGE: 1.38}
GATES = {"source": "a paper", "experts": [], "unchecked": [], "below_base": []}


@pytest.fixture(scope="module")
def records(frame):
    return frame(merges={"ta": 0.6}, quantizers={"gptq": 0.0}, bits=(4,), n=200)


def pair(label, kind, values, models, merge=None, quantizer=None):
    names = {"merge": merge, "quantizer": quantizer, "models": models}
    return {"label": label, "kind": kind, "source": "a paper", "values": values, **names}


@pytest.fixture(scope="module")
def ours(records):
    """Percent by task of each kind of model, plainly."""
    found = {}
    for kind, rows in records.groupby("kind"):
        found[kind] = {task: 100 * sum(values) / len(values) for task, values in rows.groupby("task")["value"]}
    return found


@pytest.fixture(scope="module")
def table(records, ours, tasks):
    merged = {task: round(ours["merged"][task], 2) for task in tasks}
    merged["digits"] += 0.5
    merged["signs"] -= 0.51
    merged["landuse"] += 3.9
    experts = [f"expert-{task}" for task in tasks]
    seeds = [f"ta/gptq-4-None/seed-{seed}" for seed in (0, 1, 2)]
    average = sum(ours["quantized"].values()) / 4
    pairs = [
        pair("pre-trained", "base", {"digits": 10.0, "foreign": 20.0, AVERAGE: 15.0}, ["base"]),
        pair("individual", "expert", {task: ours["expert"][task] for task in tasks}, experts),
        pair("TA", "merged", {**merged, AVERAGE: sum(ours["merged"].values()) / 4 + 2}, ["ta"], "ta"),
        pair("GPTQ", "quantized", {AVERAGE: round(average, 2)}, seeds, "ta", "gptq"),
        pair("E-PMQ", "quantized", {AVERAGE: 73.6}, []),
    ]
    return compare_published(records, pairs, TOLERANCES | {"foreign": 0.5})


def verdicts(table, setting):
    lines = table[table["setting"] == setting]
    return dict(zip(lines["task"], lines["verdict"], strict=True))


def test_verdicts_by_task(table):
    assert list(table.columns) == list(COLUMNS)
    assert verdicts(table, "individual") == dict.fromkeys(("digits", "textures", "signs", "landuse"), AGREES)
    expected = {"digits": AGREES, "textures": AGREES, "signs": DIFFERS, "landuse": AGREES, AVERAGE: DIFFERS}
    assert verdicts(table, "TA") == expected
    line = table[(table["setting"] == "TA") & (table["task"] == "signs")].iloc[0]
    assert line["difference"] == pytest.approx(0.51)
    assert line["ours"] - line["published"] == pytest.approx(line["difference"])


def test_seeds_count_as_one_model(table, records):
    (line,) = table[table["setting"] == "GPTQ"].to_dict("records")
    quantized = records[records["kind"] == "quantized"]
    assert len(quantized) == 12
    assert line["ours"] == pytest.approx(100 * quantized["value"].mean(), abs=0.005)
    assert line["verdict"] == AGREES


def test_what_was_not_run(table):
    assert verdicts(table, "E-PMQ") == {AVERAGE: NOT_RUN}
    assert verdicts(table, "pre-trained") == {"digits": DIFFERS, "foreign": NOT_RUN, AVERAGE: NOT_RUN}
    missing = table[table["verdict"] == NOT_RUN]
    assert missing[["ours", "difference"]].isna().all(axis=None)


def expert(task, value, model=None):
    return Record(model or f"experts/{task}-1", "expert", task, None, "accuracy", value, 100, 0.0, None, None, 1, 0.0, 0.0, {})


@pytest.fixture
def gates():
    records = [expert("digits", 0.9904), expert("signs", 0.85), expert("landuse", 0.9), expert("own", 0.1)]
    base = [expert(task, 0.1, "base/b") for task in ("own", "landuse", "signs", "digits")]
    return check_experts(records, base, {"digits": 99.5, "signs": 85.51, "landuse": 86.0}, TOLERANCES, "a paper")


def test_the_gate_names_expert_numbers_and_source(gates):
    assert [gate["verdict"] for gate in gates["experts"]] == [AGREES, DIFFERS, AGREES]
    assert gates["unchecked"] == ["own"]
    (warning,) = published_warnings(gates)
    assert warning == "experts/signs-1, task signs: 85.00 %, published 85.51 (a paper), -0.51 points where 0.5 are tolerated."
    assert base_warnings(gates) == []  # no better than the base is not below it


def test_an_expert_below_the_base_is_named_without_published_numbers():
    experts = [expert("digits", 0.9), expert("signs", 0.3999)]
    base = [expert("signs", 0.4, "base/b"), expert("digits", 0.1, "base/b"), expert("landuse", 0.9, "base/b")]
    gates = check_experts(experts, base, {}, {}, "")
    assert gates["unchecked"] == ["digits", "signs"]
    (warning,) = gate_warnings(gates)
    assert warning.startswith("experts/signs-1, task signs: the expert has 39.99 %, less than the 40.00 of the base. Check")
    assert "preprocessing" in warning
    with pytest.raises(DataError, match=r"below the base.*\(strict: true\)"):
        refuse(gates)


def test_no_negative_zero():
    found = judge(-0.001, 0.0, 0.5)
    assert (str(found["ours"]), str(found["difference"])) == ("0.0", "0.0")


def test_the_strict_gate_stops_only_for_a_reason(gates):
    refuse(GATES)
    with pytest.raises(DataError) as caught:
        refuse(gates)
    for word in ("experts/signs-1", "85.00", "85.51", "revisions", "split", "prompts", "strict: true"):
        assert word in str(caught.value)


@pytest.fixture
def written(tmp_path, table, gates):
    write_reproduction("mini-full", table, gates, csv=tmp_path / "reproduction.csv", markdown=tmp_path / "reproduction.md")
    return tmp_path


def test_csv(written, table):
    rows = list(csv.DictReader((written / "reproduction.csv").read_text().splitlines()))
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == len(table)
    assert rows[-1]["ours"] == rows[-1]["difference"] == rows[-1]["merge"] == ""
    assert rows[0]["difference"].count(".") == 1
    assert len(rows[0]["difference"].split(".")[1]) == 2


def test_page(written):
    page = (written / "reproduction.md").read_text()
    assert page.startswith("# Reproduction: mini-full\n\nOf 14 published numbers 8 agree, 3 differ, 3 not run.")
    assert "> **1 of 3 experts differ from their published numbers by more than is tolerated.** Check the revisions" in page
    assert "> experts/signs-1, task signs: 85.00 %" in page
    assert "Experts without a published value: own." in page
    assert "## TA (ours: ta)" in page
    assert "3 of 4" in page
    assert "## E-PMQ" not in page  # nothing to show beyond its line in the first table
    assert "| E-PMQ |" in page


def test_page_without_a_warning(tmp_path, table):
    write_reproduction("mini", table, GATES, csv=tmp_path / "a.csv", markdown=tmp_path / "a.md")
    assert ">" not in (tmp_path / "a.md").read_text().replace("->", "")


def test_the_terminal_counts_verdicts(written, capsys, frame, tasks):
    from pmqbench.reporting.comparisons import compare_all
    from pmqbench.reporting.statistics import summarise
    from pmqbench.reporting.tables import write_tables

    summary = summarise(frame(n=20), tasks)
    names = {"csv": "leaderboard.csv", "markdown": "leaderboard.md", "comparisons": "comparisons.csv", "mcnemar": "mcnemar.csv"}
    write_tables(summary, compare_all(summary, "gptq"), [], **{key: written / name for key, name in names.items()})
    write_json(written / "warnings.json", [])
    show(written)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "Published numbers: 8 agree, 3 differ, 3 not run." in lines
    assert lines[-1].endswith("reproduction.md") or any(line.endswith("reproduction.md") for line in lines)
