"""The tiny T5 suite, exported: stock transformers, without this project, gives the recorded answers."""

import json
import subprocess
import sys

from tests.t5.conftest import PROMPTS, rows
from tests.workflow.conftest import environment

EVALUATE = """
import json, pathlib, sys
sys.modules["pmqbench"] = None  # as where it is not installed
from transformers import AutoTokenizer, T5ForConditionalGeneration
prompts = json.loads(sys.stdin.read())
for folder in sys.argv[1:]:
    model = T5ForConditionalGeneration.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answers = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        made = model.generate(ids, max_length=10, do_sample=False, num_beams=1)
        answers.append(tokenizer.decode(made[0], skip_special_tokens=True))
    print(json.dumps([folder, answers]))
"""


def test_exported_models_have_the_recorded_accuracy(project):
    project.snakemake("export", "--configfile", "t5.yaml")
    exported = project.work / "results/exported"
    folders = sorted(path.parent for path in exported.glob("**/model.safetensors"))
    assert len(folders) == 5
    prompts = json.dumps([PROMPTS["mood"].format(**row) for row in rows("mood", "test")])
    command = [sys.executable, "-I", "-c", EVALUATE, *map(str, folders)]
    done = subprocess.run(command, input=prompts, cwd=project.work, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    made = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    wanted = [["bad", "good"][row["label"]] for row in rows("mood", "test")]
    for folder in folders:
        (record,) = (project.work / "results/evaluations/quantized" / folder.relative_to(exported)).glob("mood-*.json")
        right = [answer == target for answer, target in zip(made[str(folder)], wanted, strict=True)]
        assert sum(right) / len(right) == json.loads(record.read_text())["value"], folder
