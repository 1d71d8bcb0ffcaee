# What the rules share: the checked suite, paths of artefacts, and the functions that choose a rule's inputs.
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
DATA_CODE = [PROTOCOL.data_code, *sorted(DATA_SOURCES)]
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


# --- data and experts


def data_task(wildcards):
    return DATA_TASKS[wildcards.data_id]


def task_prompts(wildcards):
    """(class names, templates) of each wanted task."""
    tasks = [TASKS[name] for name in wanted_tasks(wildcards)]
    return [(task.classnames, task.templates) for task in tasks]


def base_inputs(wildcards):
    """A base that is trained here needs every task's training data."""
    return [data_file(task, "train") for task in TASKS] if SUITE.base.trains else []


def base_prompts(wildcards):
    """The prompts a base that is trained here sees."""
    if not SUITE.base.trains:
        return {}
    return {name: (task.classnames, task.templates) for name, task in TASKS.items()}


def expert_task(wildcards):
    return EXPERTS[wildcards.expert].name


def expert_inputs(wildcards):
    """An expert that is trained here needs the base, its task's training data and its zero-shot head."""
    if not SUITE.experts.trains:
        return {}
    task = expert_task(wildcards)
    return {
        "base": model_files(BASE),
        "data": data_file(task, "train"),
        "head": reader_file(task),
    }


# --- merging and quantization


def merge_recipe(wildcards):
    return MERGES[wildcards.merge].describe()


def merge_code(wildcards):
    """Hash of the code that merges: the engine, the family, and the one method used."""
    method = MERGERS.get(MERGES[wildcards.merge].method_name).__module__
    return code_hash("pmqbench.merging.engine", FAMILY.__module__, method)


def tuning_file(wildcards):
    """The chosen scaling of a merge whose scaling is chosen on the validation splits."""
    return (
        [f"{MERGED}/{wildcards.merge}/tuning.json"]
        if MERGES[wildcards.merge].tune_scaling
        else []
    )


def gate_file():
    """The experts' gate, where there are published numbers: merges wait for it, but a newer one redoes none."""
    return [ancient(GATES)] if PUBLISHED else []


def quantizer_ids(calibrated):
    return [
        name
        for name, recipe in QUANTIZERS.items()
        if recipe.method.calibrated == calibrated
    ]


def quantizer_recipe(wildcards):
    return QUANTIZERS[wildcards.quantizer].describe()


def quantizer_code(wildcards):
    """Hash of the code that quantizes: the layer loop, the family, and the one method used."""
    method = QUANTIZER_METHODS.get(
        QUANTIZERS[wildcards.quantizer].method_name
    ).__module__
    return code_hash(
        "pmqbench.quantization.calibrate",
        "pmqbench.quantization.packing",
        PROTOCOL.data_code,
        FAMILY.__module__,
        method,
    )


def calibration_readers():
    """Readers that make calibration batches, one a task, or none."""
    return [reader_file(task) for task in TASKS if PROTOCOL.calibrates_with_reader]


def wanted_tasks(wildcards):
    """The wildcard's task, the expert's own, or all of them where one job does all."""
    if "task" in wildcards.keys():
        return [wildcards.task]
    return list(TASKS)


def wanted_metrics(wildcards):
    return [TASKS[task].metric for task in wanted_tasks(wildcards)]


def wanted_seeds(wildcards):
    return [int(wildcards.seed)] if "seed" in wildcards.keys() else list(SUITE.seeds)


def quantized_folder(wildcards):
    return [f"{QUANTIZED}/{wildcards.merge}/{wildcards.quantizer}"]


def quantized_seed_folders(wildcards):
    """Folders of all wanted seeds of a calibrated recipe."""
    return [
        f"{QUANTIZED}/{wildcards.merge}/{wildcards.quantizer}/seed-{seed}"
        for seed in wanted_seeds(wildcards)
    ]


# --- evaluation


def evaluated_models():
    """Ids of the models that no seed enters and that are evaluated on every task."""
    pairs = [
        (merge.id, quantizer.id)
        for merge, quantizer in PAIRS
        if not quantizer.method.calibrated
    ]
    return [
        f"base/{SUITE.base_id}",
        *(f"merged/{merge}" for merge in MERGES),
        *(f"quantized/{m}/{q}" for m, q in pairs),
    ]


def evaluated_folders(wildcards):
    """Folders of the models that a job evaluates: one, or one a seed."""
    if "expert" in wildcards.keys():
        return [f"{MODELS}/{wildcards.expert}"]
    if "model" not in wildcards.keys():
        return quantized_seed_folders(wildcards)
    kind, name = wildcards.model.split("/", 1)
    return [f"{MODELS}/{name}" if kind == "base" else f"results/{wildcards.model}"]


def evaluated_files(wildcards):
    return [
        file for folder in evaluated_folders(wildcards) for file in model_files(folder)
    ]


def task_readers(wildcards):
    return [reader_file(task) for task in wanted_tasks(wildcards)]


def expert_records(wildcards):
    return [
        f"{EVALUATIONS}/experts/{expert}/{task.name}.json"
        for expert, task in EXPERTS.items()
    ]


def published_experts(wildcards):
    return {**expert_values(PUBLISHED), "tolerances": PUBLISHED.tolerances()}


def test_data(wildcards):
    return [data_file(task, "test") for task in wanted_tasks(wildcards)]


# --- export


def quantized_models(target):
    """Ids of the quantized models that a target compares, below results/quantized: <merge>/<quantizer>[/seed-<n>]."""
    models = [model for model, *_ in models_of(SUITE.targets[target])]
    return [
        model.removeprefix("quantized/")
        for model in models
        if model.startswith("quantized/")
    ]


def model_records(model):
    return [f"{EVALUATIONS}/{model}/{task}.json" for task in TASKS]


def own_records(wildcards):
    return model_records(f"quantized/{wildcards.quantized}")


def merge_of(wildcards):
    return wildcards.quantized.split("/", 1)[0]


def merged_records(wildcards):
    return model_records(f"merged/{merge_of(wildcards)}")


def merged_manifest(wildcards):
    return f"{MERGED}/{merge_of(wildcards)}/manifest.json"


def exported_files(folder):
    names = ("config.json", "README.md", "model.safetensors", *FAMILY.exported_files)
    return [f"{folder}/{name}" for name in names]


# --- reports


def models_of(target):
    """(model id, merge recipe, quantizer recipe, seed, tasks) of all that a target compares, references first."""
    yield f"base/{SUITE.base_id}", None, None, None, list(TASKS)
    for expert, task in EXPERTS.items():
        yield f"experts/{expert}", None, None, None, [task.name]
    for merge in target.merges:
        yield f"merged/{merge.id}", merge, None, None, list(TASKS)
    for merge, quantizer in target.pairs:
        for seed in SUITE.seeds if quantizer.method.calibrated else [None]:
            parts = ["quantized", merge.id, quantizer.id]
            parts += [] if seed is None else [f"seed-{seed}"]
            yield "/".join(parts), merge, quantizer, seed, list(TASKS)


def recipe_names(merge, quantizer):
    """The suite's names of a model's recipes, as the reports show them."""
    return {
        "merge": merge.name if merge else None,
        "quantizer": quantizer.name if quantizer else None,
        "bits": quantizer.method.bits if quantizer else FULL_PRECISION_BITS,
        "group_size": quantizer.method.group_size if quantizer else None,
    }


def record_rows(wildcards):
    return [
        {"path": f"{EVALUATIONS}/{model}/{task}.json", **recipe_names(merge, quantizer)}
        for model, merge, quantizer, _, tasks in models_of(TARGETS[wildcards.report])
        for task in tasks
    ]


def layer_rows(wildcards):
    return [
        {
            "path": f"results/{model}/layers.json",
            "seed": seed,
            **recipe_names(merge, quantizer),
        }
        for model, merge, quantizer, seed, _ in models_of(TARGETS[wildcards.report])
        if quantizer
    ]


def record_files(wildcards):
    return [row["path"] for row in record_rows(wildcards)]


def layer_files(wildcards):
    return [row["path"] for row in layer_rows(wildcards)]


def published_pairs(wildcards):
    models = [entry[:3] for entry in models_of(TARGETS[wildcards.report])]
    return pair_up(PUBLISHED, models, list(TASKS))


def published_tolerances(wildcards):
    return PUBLISHED.tolerances()


def report_name(wildcards):
    return wildcards.report


def plot_files(folder, kind):
    return [f"{folder}/plots/{name}.{kind}" for name in PLOTS]


def report_folder(target):
    """Folder of a target's report; an error that lists the suite's targets if it has no such one."""
    if target not in SUITE.targets:
        raise WorkflowError(
            f'Suite {SUITE.name} has no target "{target}"; it has: {", ".join(SUITE.targets)}. See `targets:`.'
        )
    return f"{REPORTS}/{SUITE.targets[target].report}"


def target_files(target):
    """Input function of a target rule: everything its report shows."""

    def files(wildcards):
        folder = report_folder(target)
        names = (
            "records.parquet",
            "leaderboard.csv",
            "leaderboard.md",
            "comparisons.csv",
            "tracked.json",
            *(("reproduction.csv", "reproduction.md") if PUBLISHED else ()),
        )
        return [
            *(f"{folder}/{name}" for name in names),
            *plot_files(folder, "svg"),
            *plot_files(folder, "png"),
        ]

    return files


def suite_leaderboards():
    """Leaderboards of this suite's default target and of every other report that exists."""
    own = f"{report_folder('default')}/leaderboard.csv"
    return sorted(
        {own, *(path.as_posix() for path in Path(REPORTS).glob("*/leaderboard.csv"))}
    )
