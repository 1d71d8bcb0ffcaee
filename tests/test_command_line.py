"""`pmqbench merge`, `quantize` and `evaluate` on tiny sentence encoders: what they write, print and refuse."""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pmqbench.cli import main
from pmqbench.cli.models import family, named, paired, source, tasks
from pmqbench.cli.pipeline import output_folder
from pmqbench.errors import ConfigError
from pmqbench.families.detect import family_of
from pmqbench.files import write_json
from tests.families.bert_toy import tiny_bert, write_tokenizer

CLASSES = {"topic": {"sport": "match", "money": "bank"}, "mood": {"good": "fine", "bad": "dull"}}
WORDS = ["about", "it", "is", "today", *(word for classes in CLASSES.values() for pair in classes.items() for word in pair)]
MINE = """
tasks:
""" + "".join(
    f"""
  - name: {task}
    kind: text_classification
    input: "{{text}}"
    classnames: [{", ".join(classes)}]
    templates: ["it is about {{}}"]
    source: {{name: local_text, path: texts/{task}, allow_overlap: true}}
"""
    for task, classes in CLASSES.items()
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """models/{base,topic,mood}, texts/{topic,mood}, mine.yaml."""
    folder = tmp_path_factory.mktemp("command")
    for number, name in enumerate(("base", *CLASSES)):
        tiny_bert(noise=0.02 * number).save_pretrained(folder / "models" / name)
    write_tokenizer(folder / "models/base", WORDS)
    for task, classes in CLASSES.items():
        (folder / "texts" / task).mkdir(parents=True)
        for split, count in (("train", 24), ("test", 10)):
            with open(folder / "texts" / task / f"{split}.csv", "w", newline="") as file:
                rows = [(f"{word} {'today ' * (i % 5)}{split}", name) for i in range(count) for name, word in classes.items()]
                csv.writer(file).writerows([("text", "label"), *rows])
    (folder / "mine.yaml").write_text(MINE)
    return folder


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    """A folder with links to all of that, where one is."""
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


EXPERTS = ("models/base", "--threads", "1", "--experts", "models/topic", "models/mood")


def test_a_merge_needs_no_data(here, capsys):
    before = {path.name for path in here.iterdir()}
    main(["merge", *EXPERTS, "--option", "scaling=0.5", "--out", "made/merged"])
    base, *experts = (load_file(here / "models" / name / "model.safetensors") for name in ("base", *CLASSES))
    merged = load_file(here / "made/merged/model.safetensors")
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, base[name] + 0.5 * sum(expert[name] - base[name] for expert in experts))
    assert len(merged) > 20
    manifest = json.loads((here / "made/merged/manifest.json").read_text())
    assert manifest["recipe"]["options"] == {"scaling": 0.5}
    assert [expert["task"] for expert in manifest["recipe"]["experts"]] == ["topic", "mood"]
    assert "merge experts" in capsys.readouterr().err
    assert [path.name for path in (here / "made").iterdir()] == ["merged"]
    assert {path.name for path in here.iterdir()} == {*before, "made"}


def test_calibration_takes_the_tasks_of_a_file(here):
    command = ["quantize", *EXPERTS, "--data", "mine.yaml", "--samples", "8", "--bits", "3", "--method", "epmq"]
    main([*command, "--option", "anchor=1", "--merge", "simple_average", "--out", "quantized"])
    manifest = json.loads((here / "quantized/manifest.json").read_text())
    recipe = manifest["recipe"]
    assert recipe["calibration_samples"] == {"topic": 8, "mood": 8}
    assert (recipe["quantizer"]["options"]["bits"], recipe["quantizer"]["options"]["anchor"]) == (3, 1)
    assert manifest["costs"]["calibration_samples"] == 8
    assert len(json.loads((here / "quantized/layers.json").read_text())) > 5
    weights = load_file(here / "quantized/model.safetensors")["encoder.layer.0.output.dense.weight"]
    assert max(len(row.unique()) for row in weights) <= 2**3


def test_what_was_made_is_evaluated_where_it_is(here, capsys):
    main(["quantize", *EXPERTS, "--method", "rtn", "--out", "quantized"])
    capsys.readouterr()
    main(["evaluate", "quantized", "--base", "models/base", "--data", "mine.yaml", "--threads", "1", "--out", "records"])
    records = {path.name.rsplit("-", 1)[0]: json.loads(path.read_text()) for path in (here / "records").iterdir()}
    assert records.keys() == CLASSES.keys()
    out = capsys.readouterr().out
    for task, record in records.items():
        assert record["kind"] == "quantized"
        assert record["size_bytes"] == (here / "quantized/packed.safetensors").stat().st_size
        (line,) = [line.split() for line in out.splitlines() if task in line]
        assert line[:3] == [task, "accuracy", f"{100 * record['value']:.2f}"]
        assert line[-1] == "20"
    mean = sum(record["value"] for record in records.values()) / 2
    assert ["average", f"{100 * mean:.2f}"] in [line.split()[:2] for line in out.splitlines()]
    with open(here / "quantized/model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"!")
    with pytest.raises(SystemExit):
        main(["evaluate", "quantized", "--base", "models/base", "--data", "mine.yaml", "--threads", "1"])
    assert "model.safetensors: its content is not what was written" in capsys.readouterr().err


def test_bases_and_experts_are_evaluated(here, capsys):
    shown = []
    for model in (["models/base"], ["models/mood", "--base", "models/base"]):
        main(["evaluate", *model, "--data", "mine.yaml", "--tasks", "mood", "--threads", "1"])
        shown.append(capsys.readouterr().out)
    assert all("mood" in out and "topic" not in out and "average" not in out for out in shown)
    assert not (here / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["merge", *EXPERTS, "--out", "models"], ["--out", "is there already"]),
        (["merge", *EXPERTS, "models/nope", "--out", "m"], ["--experts", 'no folder "models/nope"']),
        (["merge", *EXPERTS, "models/mood", "--out", "m"], ['two experts are called "mood"']),
        (["merge", *EXPERTS, "--method", "tise", "--out", "m"], ["tise", 'Did you mean "ties"?']),
        (["merge", *EXPERTS, "--option", "scalin=1", "--out", "m"], ["task_arithmetic.scalin", 'Did you mean "scaling"?']),
        (["merge", *EXPERTS, "--method", "regmean", "--out", "m"], ['task "topic" has no data', "--data"]),
        (["merge", *EXPERTS, "--option", "tune_scaling=[0.1, 1]", "--out", "m"], ['task "topic" has no data']),
        (["quantize", *EXPERTS, "--out", "q"], ['task "topic" has no data']),
        (["quantize", *EXPERTS, "--data", "mine.yaml", "--tasks", "mod", "--out", "q"], ["--tasks", 'Did you mean "mood"?']),
        (["quantize", *EXPERTS, "--data", "mine.yaml", "--tasks", "mood", "--out", "q"], ["2 experts and 1 tasks"]),
        (["evaluate", "models/base"], ["nothing to evaluate on"]),
        (["evaluate", "models/base", "--tasks", "digits"], ['task "digits" is of kind image_classification']),
    ],
)
def test_mistakes_are_answered_and_leave_nothing(here, capsys, arguments, said):
    before = sorted(path.name for path in here.iterdir())
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert [words for words in said if words not in err] == []
    assert "fetch" not in err  # before any work
    assert sorted(path.name for path in here.iterdir()) == before


def test_a_failure_in_the_middle_leaves_nothing(here, capsys):
    model = here / "other"
    tiny_bert(hidden_size=16).save_pretrained(model)
    before = sorted(path.name for path in here.iterdir())
    with pytest.raises(SystemExit):
        main(["merge", "models/base", "--experts", "models/topic", "other", "--out", "merged"])
    assert "expert other" in capsys.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == before


def test_places_are_folders_or_repositories(here):
    assert source("models/base", "x") == {"source": "local", "path": str((here / "models/base").resolve())}
    assert source("owner/name@abc", "x") == {"source": "hub", "id": "owner/name", "revision": "abc"}
    for wrong in ("models/nope", "nope", "/nowhere/model"):
        with pytest.raises(ConfigError):
            source(wrong, "x")
    assert [(one.name, one.given) for one in (named("a=models/mood", "x"), named("models/mood", "x"), named("o/n.1", "x"))] == [
        ("a", True),
        ("mood", False),
        ("n.1", False),
    ]


def test_a_model_is_called_like_its_path(here):
    called = {"vit-b32.mnist": "vit-b32.mnist", "lr=0.1": "lr-0.1", "weights.safetensors": "weights"}
    for place in called:
        (here / place).symlink_to(here / "models/mood")
    called["models/../models/mood/."] = "mood"
    assert {place: named(place, "x").name for place in called} == called


def test_a_link_to_an_empty_folder_is_written_through(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    with output_folder(tmp_path / "link") as deliver:
        Path("made").mkdir()
        Path("made/file").write_text("x")
        deliver("made")
    assert (tmp_path / "there/file").read_text() == "x"
    assert (tmp_path / "link").is_symlink()


def test_experts_are_paired_by_name_or_in_order(here):
    known = tasks(here / "mine.yaml", None)
    mood, topic, other = (named(name, "x") for name in ("models/mood", "models/topic", "models/base"))
    assert [(task.name, one) for task, one in paired([mood, topic], known)] == [("mood", mood), ("topic", topic)]
    assert [(task.name, one) for task, one in paired([mood, other], known)] == [("topic", mood), ("mood", other)]
    assert [task.name for task, _ in paired([named("mood=models/base", "x")], known)] == ["mood"]
    with pytest.raises(ConfigError, match='"mod" is no task'):
        paired([named("mod=models/base", "x")], known)
    assert [task.name for task in tasks(None, ["ta8", "digits"])][-2:] == ["dtd", "digits"]


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"config.json": {"model_type": "clip_vision_model"}}, "clip"),
        ({"config.json": {"model_type": "clip"}, "open_clip_config.json": {}}, "clip"),
        ({"open_clip_config.json": {}}, "open_clip"),
        ({"config.json": {}, "open_clip_config.json": {}}, "open_clip"),
        ({"config.json": {"model_type": "t5"}}, "t5"),
    ],
)
def test_a_family_is_told_by_the_config(tmp_path, config, name):
    for file, content in config.items():
        write_json(tmp_path / file, content)
    assert family_of(config, tmp_path.joinpath, "x") == name


def test_a_config_of_no_family_is_refused(here, tmp_path):
    assert family(source("models/base", "BASE"), "BASE") == "bert"
    write_json(tmp_path / "config.json", {"model_type": "llama"})
    with pytest.raises(ConfigError, match='no family reads model_type "llama"'):
        family_of(["config.json"], tmp_path.joinpath, "x")
    save_file({"a": torch.zeros(1)}, tmp_path / "bare.safetensors")
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigError, match="no config file of any family"):
        family(source(str(tmp_path / "bare.safetensors"), "BASE"), "BASE")
