"""Texts of others: prompts and class names, rows of CSV, JSON lines and tables, labels, heads of cards."""

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmqbench.cards import card_head
from pmqbench.errors import PMQError
from pmqbench.tasks.kinds.base import make_task
from pmqbench.tasks.shards import configurations, shards, stated_classes
from pmqbench.tasks.sources.local_text import LocalText
from pmqbench.tasks.sources.rows import read_rows
from pmqbench.tasks.tables import Table, class_names, read_schema
from pmqbench.tasks.text import load_examples
from tests.fuzz.inputs import TEXTS, changed, damaged, values
from tests.fuzz.survival import outcome

CLASSES = ["no", "yes"]
DEFINITION = {
    "kind": "text_classification",
    "source": {"name": "local_text", "path": "."},
    "input": "{text}",
    "classnames": CLASSES,
    "templates": ["this is {}."],
}
NAMES = st.lists(TEXTS | st.sampled_from(["no", "No", "no ", "n" * 1_000_000, "<b>", "{text}"]), max_size=4)
ROWS = [{"text": f"row {i}", "label": CLASSES[i % 2]} for i in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("texts")


@given(definition=changed(DEFINITION).filter(lambda value: isinstance(value, dict)))
def test_definitions_of_tasks(definition):
    made = outcome(make_task, "mine", definition, "tasks.0")
    if not isinstance(made, PMQError):
        outcome(lambda: made.data_id)


@given(names=NAMES, templates=st.lists(TEXTS | st.sampled_from(["{}", "a {} b", "{0.__class__}", "{!r}", "{}{}", "{x}"])))
def test_prompts_hold_the_class_names_and_nothing_else(names, templates):
    made = outcome(make_task, "mine", DEFINITION | {"classnames": names, "templates": templates}, "tasks.0")
    if isinstance(made, PMQError):
        return
    for template in made.templates:
        for name in made.classnames:
            before, after = template.split("{}")
            assert template.format(name) == before + name + after


def as_csv(rows):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([list(rows[0]), *(row.values() for row in rows)] if rows and isinstance(rows[0], dict) else [["text"]])
    return text.getvalue().encode("utf-8", "surrogatepass")


def as_lines(rows):
    return "\n".join(map(json.dumps, rows)).encode()


def read(task, folder, split="test"):
    """The examples of a split that was written, which are those of its rows."""
    rows = task.data_source().split(task, split)
    path = folder / "written.jsonl"
    assert task.write_split(path, rows, "task mine") == len(rows)
    found = load_examples(path)
    assert len(found) == len(rows)
    assert {target for _, target in found} <= {"0", "1"}


@given(data=st.data())
def test_rows(data, folder):
    rows = data.draw(changed(ROWS) | st.lists(values(), max_size=3))
    rows = rows if isinstance(rows, list) else [rows]
    suffix, write = data.draw(st.sampled_from([("jsonl", as_lines), ("csv", as_csv)]))
    try:
        content = data.draw(st.just(write(rows)) | damaged(write(ROWS)))
    except (AttributeError, csv.Error):  # rows that no CSV has
        return
    for old in folder.glob("t*.*"):
        old.unlink()
    for split in ("train", "test"):
        (folder / f"{split}.{suffix}").write_bytes(content)
    task = make_task(
        "mine", DEFINITION | {"source": {"name": "local_text", "path": str(folder), "allow_overlap": True}}, "tasks.0"
    )
    outcome(read, task, folder)
    outcome(read, task, folder, "validation")
    outcome(lambda: LocalText(path=str(folder)).label_check(task, "test"))


def huggingface(features):
    return {"huggingface": json.dumps({"info": {"features": features}})}


LABEL = {"label": {"_type": "ClassLabel", "names": CLASSES}, "image": {"_type": "Image"}}
ARROW = st.sampled_from(
    [
        pa.array([0, 1, 1]),
        pa.array([0, 1, 1], pa.uint64()),
        pa.array([2**64 - 1, 0, 1], pa.uint64()),
        pa.array([-5, 7, 2**40]),
        pa.array([0, None, 1]),
        pa.array([0.0, 1.0, float("nan")]),
        pa.array([True, False, True]),
        pa.array(["no", "yes", "maybe"]),
        pa.array(["no", "yes", "no"]).dictionary_encode(),
        pa.array([["no"], [], None]),
        pa.array([{"no": 1}] * 3),
        pa.array([b"no", b"yes", b"\xff"]),
        pa.array([1, 2, 3], pa.date32()),
        pa.array([1, 2, 3], pa.timestamp("ns", "Mars/Olympus")),
        pa.array([1, 2, 3], pa.decimal128(5)),
        pa.nulls(3),
        pa.array([1, 2, 3], pa.duration("s")),
        pa.array(["1.0", "\x00", "\u202e"]),
    ]
)
CELLS = ARROW | st.lists(st.binary(max_size=4) | st.none(), min_size=3, max_size=3).map(
    lambda cells: pa.array(cells, pa.binary())
)
CELLS |= (
    st.lists(TEXTS, min_size=3, max_size=3)
    .filter(lambda texts: not any("\ud800" <= c <= "\udfff" for t in texts for c in t))
    .map(lambda paths: pa.array([{"path": path, "bytes": None} for path in paths]))
)


@given(
    label=ARROW,
    image=CELLS,
    names=st.sampled_from([["image", "label"], ["label", "image"], ["label", "label"], ["image", "image"], ["x", ""]]),
    features=st.none() | changed(LABEL) | values(),
    kind=st.sampled_from(["parquet", "arrow", "stream"]),
)
def test_tables(label, image, names, features, kind, folder):
    file = folder / ("table.parquet" if kind == "parquet" else "table.arrow")
    table = pa.table([image, label], names=names)
    table = table if features is None else table.replace_schema_metadata(huggingface(features))
    if kind == "parquet":
        try:
            pq.write_table(table, file)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # what no parquet file holds
            return
    else:
        new = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
        with new(str(file), table.schema) as sink:
            sink.write_table(table)
    outcome(lambda: class_names(read_schema(file, "split test"), "label"))
    stored = Table([file], "image", "label", "split test", paths=True)
    outcome(stored.class_names)
    outcome(lambda: list(read_rows(file, "split test")))
    labels = outcome(stored.labels, CLASSES)
    if not isinstance(labels, PMQError):
        assert labels.dtype == np.int64
        taken = outcome(lambda: list(stored.images(np.arange(len(labels)))))
        for image, _ in [] if isinstance(taken, PMQError) else taken:
            assert isinstance(image, bytes) or image.resolve().is_relative_to(folder)


@given(data=st.data())
def test_damaged_tables(data, folder):
    for suffix in ("parquet", "arrow"):
        file, table = folder / f"damaged.{suffix}", pa.table({"image": [b"x"] * 9, "label": [0, 1, 1] * 3})
        if suffix == "parquet":
            pq.write_table(table, file)
        else:
            with pa.ipc.new_file(str(file), table.schema) as sink:
                sink.write_table(table)
        file.write_bytes(data.draw(damaged(file.read_bytes())))
        stored = Table([file], "image", "label", "split test")
        outcome(stored.class_names)
        outcome(stored.labels, CLASSES)
        outcome(lambda images=stored.images: list(images(np.arange(9))))


CARD = {
    "configs": [{"config_name": "default", "data_files": [{"split": "test", "path": "data/test-*"}]}],
    "dataset_info": {"features": [{"name": "label", "dtype": {"class_label": {"names": {"0": "no", "1": "yes"}}}}]},
}


@given(head=changed(CARD).map(json.dumps) | st.text(), files=st.lists(TEXTS | st.just("data/test-0.parquet"), max_size=3))
def test_cards(head, files):
    card = f"---\n{head}\n---\n"
    assert isinstance(outcome(card_head, card), dict)
    outcome(configurations, card)
    outcome(stated_classes, card, None, "label")
    chosen = outcome(shards, files, "test", "split test", None, card)
    assert isinstance(chosen, PMQError) or set(chosen) <= set(files)
