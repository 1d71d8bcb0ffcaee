"""Text tasks: definitions, prompts and targets, splits from local files, token ids and masks."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pmqbench.errors import ConfigError, DataError
from pmqbench.tasks.definitions import known_tasks, load_task
from pmqbench.tasks.kinds.base import make_task
from pmqbench.tasks.kinds.text_to_text import TextTask
from pmqbench.tasks.sources.rows import read_rows
from pmqbench.tasks.text import load_examples, load_tokenizer, save_examples, teacher_forced
from tests.t5.toy import write_tokenizer

GLUE = {
    "cola": ({"sentence": "Cats sleeps."}, 0, "unacceptable"),
    "mnli": ({"premise": "A.", "hypothesis": "B."}, 2, "contradiction"),
    "mrpc": ({"sentence1": "A.", "sentence2": "B."}, 1, "yes"),
    "qnli": ({"sentence": "A.", "question": "B?"}, 1, "no"),
    "qqp": ({"question1": "A?", "question2": "B?"}, 0, "no"),
    "rte": ({"sentence1": "A.", "sentence2": "B."}, 0, "yes"),
    "sst2": ({"sentence": "fine"}, 1, "positive"),
    "stsb": ({"sentence1": "A.", "sentence2": "B."}, 3.799999952316284, "3.8"),
}
WORDS = ["zero", "one"]


def definition(path, **changes):
    source = {"name": "local_text", "path": str(path), "splits": {"train": "train", "test": "test"}}
    return {"kind": "text_to_text", "input": "Say {text}!", "target": WORDS, "source": source} | changes


def write_rows(folder, split, rows, suffix=".jsonl"):
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    else:
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("name", GLUE)
def test_glue_prompts_and_targets(name):
    task = load_task(f"glue-{name}")
    columns, label, target = GLUE[name]
    prompt, made = task.example({**columns, "label": label, "idx": 7}, "")
    assert made == target
    assert all(text in prompt for text in columns.values())
    assert ("Answere" in prompt) == (name in ("cola", "mnli", "mrpc", "qqp"))
    assert task.metric == ("spearman" if name == "stsb" else "accuracy")
    assert task.source["splits"]["test"] == ("validation_matched" if name == "mnli" else "validation")


def test_there_are_eight_glue_tasks():
    assert sorted(name for name in known_tasks() if name.startswith("glue-")) == sorted(f"glue-{name}" for name in GLUE)
    assert sum(load_task(f"glue-{name}").test_examples for name in GLUE) == 1043 + 9815 + 408 + 5463 + 40430 + 277 + 872 + 1500


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_splits_from_local_files(tmp_path, suffix):
    train = [{"text": f"word {i}", "label": i % 2} for i in range(60)]
    write_rows(tmp_path, "train", train, suffix)
    write_rows(tmp_path, "test", [{"text": "last {brace}", "label": 1}], suffix)
    task = make_task("mine", definition(tmp_path), "task mine")
    splits = {}
    for split in ("train", "validation", "test"):
        task.write_split(tmp_path / "made" / split, task.data_source().split(task, split), "")
        splits[split] = load_examples(tmp_path / "made" / split)
    assert splits["test"] == [("Say last {brace}!", "one")]
    assert len(splits["validation"]) == 6
    assert sorted(splits["train"] + splits["validation"]) == sorted((f"Say word {i}!", WORDS[i % 2]) for i in range(60))


def test_a_training_split_is_capped_by_a_seeded_draw(tmp_path):
    write_rows(tmp_path, "train", [{"text": str(i), "label": 0} for i in range(300)])
    source = definition(tmp_path)["source"] | {"train_examples": 20}
    task = make_task("mine", definition(tmp_path, source=source), "task mine")
    first, again = (task.data_source().split(task, "train") for _ in range(2))
    assert len(first) == 20
    assert first == again
    held = {row["text"] for row in task.data_source().split(task, "validation")}
    assert not held & {row["text"] for row in first}


def test_prompts_and_files_are_part_of_the_datas_id(tmp_path):
    write_rows(tmp_path, "train", [{"text": "a", "label": 0}])
    ids = {
        make_task("mine", definition(tmp_path, **change), "task mine").data_id
        for change in ({}, {"input": "{text}"}, {"target": "{}"})
    }
    write_rows(tmp_path, "train", [{"text": "another", "label": 0}])
    assert len(ids | {make_task("mine", definition(tmp_path), "task mine").data_id}) == 4


def test_the_datas_id_follows_the_splits_files_alone(tmp_path):
    (tmp_path / "deep").mkdir()
    write_rows(tmp_path / "deep", "train", [{"text": "a", "label": 0}])
    source = definition(tmp_path)["source"] | {"splits": {"train": "deep/train", "test": "test"}}
    before = make_task("mine", definition(tmp_path, source=source), "task mine").data_id
    write_rows(tmp_path, "notes", [{"text": "a", "label": 0}])
    assert make_task("mine", definition(tmp_path, source=source), "task mine").data_id == before
    write_rows(tmp_path / "deep", "train", [{"text": "another", "label": 0}])
    assert make_task("mine", definition(tmp_path, source=source), "task mine").data_id != before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "text2text"}, ['unknown kind "text2text"', 'Did you mean "text_to_text"?']),
        ({"inputs": "x"}, ['unknown key "inputs"', 'Did you mean "input"?']),
        ({"metric": "rho"}, ["metric", "rho"]),
        ({"target": 3}, ["target"]),
        ({"target": "good"}, ["target", '"good" does not fit', "one place for the label"]),
        ({"target": "{word}"}, ["target", '"{word}" does not fit']),
        ({"input": "Say it!"}, ["input", '"Say it!" does not fit', "one at least"]),
        ({"input": "Say {text"}, ["input", '"Say {text" does not fit']),
        ({"input": "Say {text:d}"}, ["input", '"Say {text:d}" does not fit']),
        ({"source": {"name": "local", "path": "x"}}, ["source.name", "takes texts", "hub_text, local_text"]),
        ({"source": {"name": "local_texts", "path": "x"}}, ['Did you mean "local_text"?']),
        ({"source": {"name": "local_text", "path": "x", "split": {}}}, ["task mine.source", 'Did you mean "splits"?']),
        ({"source": {"path": "x"}}, ["task mine.source", '"name" is missing']),
    ],
)
def test_bad_definitions_are_named(tmp_path, change, words):
    with pytest.raises(ConfigError) as caught:
        make_task("mine", definition(tmp_path, **change), "task mine")
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("rows", "change", "words"),
    [
        ([{"texts": "a", "label": 0}], {}, "row 0: there is no column 'text'; there are: texts, label"),
        ([{"text": ["a"], "label": 0}], {}, r"row 0: column 'text' holds \['a'\], which is no text"),
        ([{"text": "a", "label": 0}, {"text": "b", "label": 2}], {}, "row 1: label 2 is no class; the task has 2"),
        ([{"text": "a", "label": "x"}], {"target": "{:.1f}"}, "does not fit the format"),
        ([{"text": "a", "label": " "}], {"target": "{}"}, "example 0 has an empty prompt or target"),
        ([{"text": "a\ud83d", "label": 0}], {}, "example 0 has half a character"),
        ([], {}, "the split is empty"),
    ],
)
def test_bad_rows_are_named_and_nothing_is_written(tmp_path, rows, change, words):
    task = make_task("mine", definition(tmp_path, **change), "task mine")
    with pytest.raises(DataError, match=f"task mine, split train.*{words}"):
        task.write_split(tmp_path / "made.jsonl", rows, "task mine, split train")
    assert not (tmp_path / "made.jsonl").exists()


def test_broken_files_are_named(tmp_path):
    task = make_task("mine", definition(tmp_path), "task mine")
    with pytest.raises(DataError, match=r"neither train\.jsonl nor train\.csv nor train\.parquet"):
        task.data_source().split(task, "train")
    (tmp_path / "train.jsonl").write_text('{"text": "a", "label": 0}\n{"text": ')
    with pytest.raises(DataError, match=r"train\.jsonl, line 2 is not JSON"):
        task.data_source().split(task, "train")
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"both train\.jsonl and train\.parquet"):
        task.data_source().split(task, "train")
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(DataError, match=r"train\.parquet is not a readable table"):
        task.data_source().split(task, "train")


def rows_of(folder, content, suffix=".jsonl", **change):
    (folder / f"test{suffix}").write_bytes(content.encode() if isinstance(content, str) else content)
    task = make_task("mine", definition(folder, **change), "task mine")
    rows = task.data_source().split(task, "test")
    return [task.example(row, "row") for row in rows]


def test_json_lines_end_at_newlines_only(tmp_path):
    texts = ["a\u2028b", "c\x0bd\x0ce", "f\x1c\u0085g", "h"]
    lines = [json.dumps({"text": text, "label": 1}, ensure_ascii=False) for text in texts]
    made = rows_of(tmp_path, "\ufeff" + "\r\n".join(lines) + "\n\n")
    assert made == [(f"Say {text}!", "one") for text in texts]
    save_examples(tmp_path / "kept.jsonl", made, "")
    assert load_examples(tmp_path / "kept.jsonl") == made


@pytest.mark.parametrize(
    ("content", "suffix", "words"),
    [
        ('{"text": "a", "label": 0}\n[1]', ".jsonl", r"test\.jsonl, line 2 is no JSON object"),
        (b"\xff\xfe", ".jsonl", r"test\.jsonl is not UTF-8 \(byte 0\)"),
        ("text,label\na,0\nb,1,2\n", ".csv", r"test\.csv, line 3 has 3 cells, the header 2"),
        ('text,label\n"a"b,0\n', ".csv", r"test\.csv, line 2 is no CSV"),
        ("text,label,text\na,0,b\n", ".csv", r"test\.csv names a column twice: text, label, text"),
        ("text;label\na;0\n", ".csv", r"there is no column 'text'; there are: text;label"),
    ],
)
def test_broken_rows_are_named(tmp_path, content, suffix, words):
    with pytest.raises(DataError, match=words):
        rows_of(tmp_path, content, suffix)


def test_csv_is_read_as_spreadsheets_write_it(tmp_path):
    content = '\ufefftext,label,more\r\n"a, ""b""\nc",1,7\r\nd\u2028e,0,\r\n\r\n007,1,x\r\n'
    assert rows_of(tmp_path, content, ".csv") == [('Say a, "b"\nc!', "one"), ("Say d\u2028e!", "zero"), ("Say 007!", "one")]


@pytest.mark.parametrize(
    ("target", "labels", "expected"),
    [
        (WORDS, ["1", "0"], ["one", "zero"]),  # numbers of the words
        (WORDS, ["one", "zero"], ["one", "zero"]),  # words
        (["1", "2"], ["1", "2"], ["1", "2"]),  # words, even if they could be numbers
        ("{}", ["007", "1"], ["007", "1"]),  # text as it stands
        ("{:.1f}", ["3.80", "4"], ["3.8", "4.0"]),  # numbers for a format of numbers
    ],
)
def test_labels_of_a_csv(tmp_path, target, labels, expected):
    content = "text,label\n" + "".join(f"a,{label}\n" for label in labels)
    assert [made for _, made in rows_of(tmp_path, content, ".csv", target=target)] == expected


def test_digits_in_a_csv_are_no_number_where_they_could_be_a_name(tmp_path):
    with pytest.raises(DataError, match="label '0' is no class; the task has 3: 1, 2, 3"):
        rows_of(tmp_path, "text,label\na,1\nb,0\n", ".csv", target=["1", "2", "3"])
    assert rows_of(tmp_path, "text,label\na,1\n", ".csv", target=["1", "2", "3"]) == [("Say a!", "1")]


def test_labels_that_are_words_of_the_target(tmp_path):
    lines = '{"text": "a", "label": "one"}\n{"text": "b", "label": 0}\n'
    assert rows_of(tmp_path, lines) == [("Say a!", "one"), ("Say b!", "zero")]
    with pytest.raises(DataError, match="label 'two' is no class; the task has 2: zero, one"):
        rows_of(tmp_path, '{"text": "a", "label": "two"}\n')


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"text": null, "label": 0}', "column 'text' has no value"),
        ('{"text": NaN, "label": 0}', "column 'text' has no value"),
        ('{"text": "a", "label": null}', "label None does not fit"),
        ('{"text": "a", "label": NaN}', "label nan does not fit"),
    ],
)
def test_missing_values_are_no_text(tmp_path, row, words):
    with pytest.raises(DataError, match=words):
        rows_of(tmp_path, row, target="{}")


def test_arrow_files_of_the_hub_are_read_as_tables(tmp_path):
    table = pa.table({"text": ["a"], "label": [1]})
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert list(read_rows(tmp_path / "x.arrow", "")) == [{"text": "a", "label": 1}]


def test_decoder_reads_the_target_up_to_its_last_token(tmp_path):
    write_tokenizer(tmp_path, ["yes", "no", "is it", "really"])
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    batches = teacher_forced(tokenizer, [("is it really", "yes"), ("is it", "no no"), ("it", "yes")], 2, start=0)
    assert [len(batch["input_ids"]) for batch in batches] == [2, 1]
    for batch, pairs in zip(batches, [[("is it really", "yes"), ("is it", "no no")], [("it", "yes")]], strict=True):
        for row, (prompt, target) in enumerate(pairs):
            real = batch["attention_mask"][row].bool()
            assert batch["input_ids"][row][real].tolist() == tokenizer.encode(prompt).ids
            assert tokenizer.encode(prompt).ids[-1] == tokenizer.token_to_id("</s>")
            real = batch["decoder_attention_mask"][row].bool()
            assert batch["decoder_input_ids"][row][real].tolist() == [0, *tokenizer.encode(target).ids[:-1]]


def test_long_prompts_are_cut_and_keep_their_end(tmp_path):
    write_tokenizer(tmp_path, ["yes", "no"])
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    ids = tokenizer.encode("yes " * 1000).ids
    assert len(ids) == 512
    assert ids[-1] == tokenizer.token_to_id("</s>")


def test_a_foreign_tokenizer_is_named(tmp_path):
    with pytest.raises(DataError, match="there is no such tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="not a tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_lines_keep_their_text(tmp_path):
    pairs = [('quo"te\nnext', "é ü"), ("tab\t", " lead")]
    save_examples(tmp_path / "x.jsonl", pairs, "")
    assert load_examples(tmp_path / "x.jsonl") == pairs
    assert isinstance(load_task("glue-cola"), TextTask)
