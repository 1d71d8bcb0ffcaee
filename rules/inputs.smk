# The functions that choose a rule's inputs and parameters, stage by stage.
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


def expert_source(wildcards):
    """The experts' source as far as it concerns this one: not the revisions of the others."""
    own = dict(config["experts"])
    revisions = own.pop("revisions", {})
    revision = revisions.get(expert_task(wildcards), own.get("revision"))
    return own | ({"revision": revision} if revision else {})


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


def data_manifests(wildcards):
    return [
        f"{DATA}/{TASKS[task].data_id}/manifest.json"
        for task in wanted_tasks(wildcards)
    ]


def test_data(wildcards):
    return [data_file(task, "test") for task in wanted_tasks(wildcards)]
