# What reports and exports are made of: the functions that choose their inputs.
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
