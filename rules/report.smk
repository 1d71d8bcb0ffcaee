# From records to tables, plots, MLflow runs and the joint leaderboard.
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
