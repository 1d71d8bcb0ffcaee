# From records to tables, plots, MLflow runs and the joint leaderboard.
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


rule collect_records:
    input:
        records=record_files,
        layers=layer_files,
    output:
        records=f"{REPORTS}/{{report}}/records.parquet",
        layers=f"{REPORTS}/{{report}}/layers.parquet",
    log:
        "results/logs/collect_records/{report}.log",
    conda:
        "../envs/pmqbench.yaml"
    params:
        suite=SUITE.name,
        rows=record_rows,
        layer_rows=layer_rows,
        code=code_hash("pmqbench.reporting.collect"),
    script:
        "../scripts/collect_records.py"


rule rank_models:
    input:
        f"{REPORTS}/{{report}}/records.parquet",
    output:
        csv=report(
            f"{REPORTS}/{{report}}/leaderboard.csv",
            category="Leaderboard",
            caption="../docs/captions/leaderboard.rst",
        ),
        markdown=f"{REPORTS}/{{report}}/leaderboard.md",
        comparisons=report(
            f"{REPORTS}/{{report}}/comparisons.csv",
            category="Leaderboard",
            caption="../docs/captions/comparisons.rst",
        ),
    log:
        "results/logs/rank_models/{report}.log",
    conda:
        "../envs/pmqbench.yaml"
    params:
        tasks=list(TASKS),
        reference=SUITE.reference,
        code=code_hash("pmqbench.reporting.tables", "pmqbench.reporting.statistics"),
    script:
        "../scripts/rank_models.py"


rule compare_published:
    input:
        records=f"{REPORTS}/{{report}}/records.parquet",
        gates=GATES,
    output:
        csv=report(
            f"{REPORTS}/{{report}}/reproduction.csv",
            category="Reproduction",
            caption="../docs/captions/reproduction.rst",
        ),
        markdown=report(
            f"{REPORTS}/{{report}}/reproduction.md",
            category="Reproduction",
            caption="../docs/captions/reproduction.rst",
        ),
    log:
        "results/logs/compare_published/{report}.log",
    conda:
        "../envs/pmqbench.yaml"
    params:
        report=report_name,
        pairs=published_pairs,
        tolerances=published_tolerances,
        code=code_hash("pmqbench.reporting.reproduction"),
    script:
        "../scripts/compare_published.py"


rule plot_comparison:
    input:
        records=f"{REPORTS}/{{report}}/records.parquet",
        layers=f"{REPORTS}/{{report}}/layers.parquet",
    output:
        svg=report(
            plot_files(f"{REPORTS}/{{report}}", "svg"),
            category="Plots",
            caption="../docs/captions/plots.rst",
        ),
        png=plot_files(f"{REPORTS}/{{report}}", "png"),
    log:
        "results/logs/plot_comparison/{report}.log",
    conda:
        "../envs/pmqbench.yaml"
    params:
        tasks=list(TASKS),
        bits=PAIRS[0][1].method.bits,
        code=code_hash("pmqbench.reporting.plots", "pmqbench.reporting.layer_plot"),
    script:
        "../scripts/plot_comparison.py"


rule track_runs:
    input:
        records=f"{REPORTS}/{{report}}/records.parquet",
        artefacts=[
            f"{REPORTS}/{{report}}/leaderboard.csv",
            f"{REPORTS}/{{report}}/comparisons.csv",
            *plot_files(f"{REPORTS}/{{report}}", "svg"),
            *plot_files(f"{REPORTS}/{{report}}", "png"),
        ],
    output:
        f"{REPORTS}/{{report}}/tracked.json",
    log:
        "results/logs/track_runs/{report}.log",
    conda:
        "../envs/pmqbench.yaml"
    params:
        suite=report_name,
        store=hash8(os.environ.get("MLFLOW_TRACKING_URI")),
        code=code_hash("pmqbench.reporting.tracking"),
    script:
        "../scripts/track_runs.py"


rule join_leaderboards:
    input:
        suite_leaderboards(),
    output:
        csv="results/leaderboard.csv",
        markdown="results/leaderboard.md",
    log:
        "results/logs/join_leaderboards.log",
    conda:
        "../envs/pmqbench.yaml"
    params:
        readme=str(Path(workflow.basedir) / "README.md"),
        code=code_hash("pmqbench.reporting.leaderboard"),
    script:
        "../scripts/join_leaderboards.py"
