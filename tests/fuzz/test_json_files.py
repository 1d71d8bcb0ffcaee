"""Files of results and of others' entries: whatever they hold, they are read rightly or refused by name."""

import contextlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmqbench.config import load_suite
from pmqbench.costs import Costs
from pmqbench.errors import PMQError
from pmqbench.files import read_json
from pmqbench.integrity import read_sealed, write_sealed
from pmqbench.records import Record, pack_outcomes, read_record
from pmqbench.submissions.checks import check_entry
from pmqbench.submissions.rows import model_rows, reference_rows
from pmqbench.submissions.schema import read_entry
from pmqbench.submissions.submit import submit
from pmqbench.workflow.layout import Layout
from tests.fuzz.inputs import changed, damaged, values
from tests.fuzz.survival import outcome
from tests.submissions.conftest import CONFIG, outcomes, write_results

CORRECT = outcomes(0.7, "digits", "fuzz")
RECORD = asdict(
    Record(
        *("quantized/a/b", "quantized", "digits", 0, "accuracy", float(CORRECT.mean()), len(CORRECT), 0.03, 1.0),
        *(
            pack_outcomes(CORRECT),
            1000,
            0.1,
            9.0,
            {"recipe": {}, "inputs": {"base": "0" * 64}},
            Costs(1.0, 16, True),
            ["warned"],
        ),
    )
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("files") / "file.json"


def put(file, document):
    file.write_text(json.dumps(document), encoding="utf-8")  # NaN and Infinity as Python writes them


@given(document=changed(RECORD), sealed=st.booleans())
def test_records(document, sealed, file):
    put(file, document)
    if sealed and not isinstance(outcome(read_json, file), PMQError) and isinstance(document, dict):
        with contextlib.suppress(ValueError, RecursionError):  # NaN, which no seal is written for
            write_sealed(file, document)
    read = outcome(read_record, file)
    if not isinstance(read, PMQError):
        assert -1 <= read.value <= 1
        assert read.correct is None or len(read.outcomes()) == read.n
        read.interval()


@given(content=damaged(json.dumps(RECORD).encode()) | st.binary(max_size=40) | st.sampled_from([b"[" * 100_000, b"9" * 10_000]))
def test_damaged_json(content, file):
    file.write_bytes(content)
    for read in (read_json, read_sealed, read_record):
        outcome(read, file)


@pytest.fixture(scope="module")
def entry(tmp_path_factory):
    """An entry as `make submit` writes it."""
    suite = load_suite(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("small"))
        write_results(Layout(suite))
        return read_json(submit(suite, "all", "ta/gptq/4", "Ada", "https://example.org/ada", folder=Path("entries")))


@given(data=st.data())
def test_entries(data, entry, file):
    put(file, data.draw(changed(entry) | values()))
    read = outcome(read_entry, file)
    if isinstance(read, PMQError) or isinstance(outcome(check_entry, read, file.name), PMQError):
        return
    assert read.submitted.link is None or read.submitted.link.scheme in ("http", "https")
    assert len(outcome(model_rows, read)) == len(read.runs) * len(read.tasks)
    outcome(reference_rows, read)
