# What the rules share: the checked suite, where artefacts are, and which files they are made of.
import os
import re
import sys
from pathlib import Path

if str(workflow.basedir) not in sys.path:
    sys.path.insert(0, str(workflow.basedir))

from snakemake.exceptions import WorkflowError

from pmqbench.code_hash import code_hash
from pmqbench.config import check_files, load_suite
from pmqbench.errors import PMQError
from pmqbench.evaluation.base import PROTOCOLS
from pmqbench.families.base import FAMILIES
from pmqbench.files import hash8
from pmqbench.merging.base import MERGERS
from pmqbench.quantization.base import QUANTIZERS as QUANTIZER_METHODS
from pmqbench.recipes import FULL_PRECISION_BITS
from pmqbench.reporting import PLOTS
from pmqbench.reporting.published import expert_values, load_published, pair_up

try:
    check_files(workflow.configfiles)
    SUITE = load_suite(config)
except PMQError as error:
    raise WorkflowError(f"The configuration cannot be used: {error}") from None

FAMILY = FAMILIES.get(SUITE.family)()
PROTOCOL = PROTOCOLS.get(FAMILY.protocol)()
MODEL_FILES = [FAMILY.weights_file, FAMILY.config_file, "manifest.json"]
TASKS = {task.name: task for task in SUITE.tasks}
DATA_TASKS = {task.data_id: task.name for task in SUITE.tasks}
DATA_SOURCES = {type(task.data_source()).__module__ for task in SUITE.tasks}
DATA_CODE = [PROTOCOL.data_code, PROTOCOL.task_class.__module__, *sorted(DATA_SOURCES)]
DATA_SUFFIX = PROTOCOL.task_class.suffix
TARGETS = {target.report: target for target in SUITE.targets.values()}
PAIRS = [pair for target in TARGETS.values() for pair in target.pairs]
MERGES = {merge.id: merge for merge, _ in PAIRS}
QUANTIZERS = {quantizer.id: quantizer for _, quantizer in PAIRS}
EXPERTS = {SUITE.expert_id(task): task for task in SUITE.tasks}
PUBLISHED = load_published(SUITE.name)

DATA = "results/data"
MODELS = "results/experts"
BASE = f"{MODELS}/{SUITE.base_id}"
HEADS = f"results/heads/{SUITE.base_id}"
MERGED = "results/merged"
QUANTIZED = "results/quantized"
EXPORTED = "results/exported"
EVALUATIONS = "results/evaluations"
REPORTS = "results/suites"
GATES = f"results/gates/{SUITE.name}.json"

# A small suite does all seeds and tasks of a recipe in one job (imports cost more than the work); a large one, one job each.
SEED_PATTERNS = (
    [f"seed-{seed}" for seed in SUITE.seeds] if SUITE.batch_jobs else ["seed-{seed}"]
)
TASK_PATTERNS = list(TASKS) if SUITE.batch_jobs else ["{task}"]
SEED_LOG = "" if SUITE.batch_jobs else ".seed-{seed}"
TASK_LOG = "" if SUITE.batch_jobs else ".{task}"
JOB_THREADS = 1 if SUITE.batch_jobs else max(1, workflow.cores or 1)


def any_of(names):
    """Regular expression that matches one of the names, or nothing at all if there are none."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


wildcard_constraints:
    data_id=any_of(DATA_TASKS),
    task=any_of(TASKS),
    expert=any_of(EXPERTS),
    merge=any_of(MERGES),
    quantizer=any_of(QUANTIZERS),
    seed=r"\d+",
    report=any_of(TARGETS),


# --- files of an artefact


def data_file(task, split):
    return f"{DATA}/{TASKS[task].data_id}/{split}{DATA_SUFFIX}"


def model_files(folder):
    return [f"{folder}/{name}" for name in MODEL_FILES]


def base_files():
    return [*model_files(BASE), *(f"{BASE}/{name}" for name in PROTOCOL.base_files)]


def reader_file(task):
    """What reads the task's answers from a model's output: its zero-shot head, or the base's tokenizer."""
    return PROTOCOL.reader(task, BASE, HEADS)


def quantized_files(folder):
    return [
        *model_files(folder),
        f"{folder}/packed.safetensors",
        f"{folder}/layers.json",
    ]


def expert_files():
    return [file for expert in EXPERTS for file in model_files(f"{MODELS}/{expert}")]
