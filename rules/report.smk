# From records to tables, plots, MLflow runs and the joint leaderboard.
rule collect_records:
    input:
        records=REPORTS.record_files,
        layers=REPORTS.layer_files,
        curves=REPORTS.curve_files,
        manifests=REPORTS.manifests,
    output:
        records=f"{REPORT_FOLDERS}/{{report}}/records.parquet",
        layers=f"{REPORT_FOLDERS}/{{report}}/layers.parquet",
        curves=f"{REPORT_FOLDERS}/{{report}}/curves.parquet",
    log:
        "results/logs/collect_records/{report}.log",
    conda:
        "../envs/pmqbench.yaml"
    resources:
        **RESOURCES.of(RESOURCES.report_work),
    params:
        suite=SUITE.name,
        rows=REPORTS.record_rows,
        layer_rows=REPORTS.layer_rows,
        curve_rows=REPORTS.curve_rows,
        code=REPORTS.code("collect_records"),
    script:
        "../scripts/collect_records.py"


rule collect_warnings:
    input:
        manifests=REPORTS.manifests,
        gates=REPORTS.gate,
        records=f"{REPORT_FOLDERS}/{{report}}/records.parquet",
    output:
        f"{REPORT_FOLDERS}/{{report}}/warnings.json",
    log:
        "results/logs/collect_warnings/{report}.log",
    conda:
        "../envs/pmqbench.yaml"
    resources:
        **RESOURCES.of(RESOURCES.report_work),
    params:
        suite=SUITE.name,
        stated=REPORTS.stated_warnings(),
        strict=SUITE.strict,
        made_of=REPORTS.manifests,
        code=REPORTS.code("collect_warnings"),
    script:
        "../scripts/collect_warnings.py"


rule rank_models:
    input:
        records=f"{REPORT_FOLDERS}/{{report}}/records.parquet",
        warnings=f"{REPORT_FOLDERS}/{{report}}/warnings.json",
    output:
        csv=report(
            f"{REPORT_FOLDERS}/{{report}}/leaderboard.csv",
            category="Leaderboard",
            caption="../docs/captions/leaderboard.rst",
        ),
        markdown=report(
            f"{REPORT_FOLDERS}/{{report}}/leaderboard.md",
            category="Leaderboard",
            caption="../docs/captions/leaderboard.rst",
        ),
        comparisons=report(
            f"{REPORT_FOLDERS}/{{report}}/comparisons.csv",
            category="Leaderboard",
            caption="../docs/captions/comparisons.rst",
        ),
        mcnemar=f"{REPORT_FOLDERS}/{{report}}/mcnemar.csv",
    log:
        "results/logs/rank_models/{report}.log",
    conda:
        "../envs/pmqbench.yaml"
    resources:
        **RESOURCES.of(RESOURCES.report_work),
    params:
        tasks=list(LAYOUT.tasks),
        reference=SUITE.reference,
        code=REPORTS.code("rank_models"),
    script:
        "../scripts/rank_models.py"


rule write_page:
    input:
        records=f"{REPORT_FOLDERS}/{{report}}/records.parquet",
        layers=f"{REPORT_FOLDERS}/{{report}}/layers.parquet",
        warnings=f"{REPORT_FOLDERS}/{{report}}/warnings.json",
        leaderboard=f"{REPORT_FOLDERS}/{{report}}/leaderboard.csv",
        comparisons=f"{REPORT_FOLDERS}/{{report}}/comparisons.csv",
    output:
        page=f"{REPORT_FOLDERS}/{{report}}/leaderboard.html",
        index_json=f"{REPORT_FOLDERS}/{{report}}/index.json",
        index_csv=f"{REPORT_FOLDERS}/{{report}}/index.csv",
    log:
        "results/logs/write_page/{report}.log",
    conda:
        "../envs/pmqbench.yaml"
    resources:
        **RESOURCES.of(RESOURCES.report_work),
    params:
        report="{report}",
        tasks=list(LAYOUT.tasks),
        models=REPORTS.index_rows,
        beside=REPORTS.beside_page,
        configfiles=REPORTS.config_files(workflow.configfiles),
        changes=dict(workflow.config_settings.config),
        code=REPORTS.page_code("write_page"),
    script:
        "../scripts/write_page.py"


rule compare_published:
    input:
        records=f"{REPORT_FOLDERS}/{{report}}/records.parquet",
        gates=REPORTS.gate,
    output:
        csv=report(
            f"{REPORT_FOLDERS}/{{report}}/reproduction.csv",
            category="Reproduction",
            caption="../docs/captions/reproduction.rst",
        ),
        markdown=report(
            f"{REPORT_FOLDERS}/{{report}}/reproduction.md",
            category="Reproduction",
            caption="../docs/captions/reproduction.rst",
        ),
    log:
        "results/logs/compare_published/{report}.log",
    conda:
        "../envs/pmqbench.yaml"
    resources:
        **RESOURCES.of(RESOURCES.report_work),
    params:
        report="{report}",
        pairs=REPORTS.published_pairs,
        tolerances=REPORTS.published_experts()["tolerances"],
        code=REPORTS.code("compare_published"),
    script:
        "../scripts/compare_published.py"


rule plot_comparison:
    input:
        records=f"{REPORT_FOLDERS}/{{report}}/records.parquet",
        layers=f"{REPORT_FOLDERS}/{{report}}/layers.parquet",
        curves=f"{REPORT_FOLDERS}/{{report}}/curves.parquet",
    output:
        svg=report(
            REPORTS.plot_files(f"{REPORT_FOLDERS}/{{report}}", "svg"),
            category="Plots",
            caption="../docs/captions/plots.rst",
        ),
        png=REPORTS.plot_files(f"{REPORT_FOLDERS}/{{report}}", "png"),
    log:
        "results/logs/plot_comparison/{report}.log",
    conda:
        "../envs/pmqbench.yaml"
    resources:
        **RESOURCES.of(RESOURCES.report_work),
    params:
        tasks=list(LAYOUT.tasks),
        code=REPORTS.plot_code(),
    script:
        "../scripts/plot_comparison.py"


rule answer_ablations:
    input:
        records=f"{REPORT_FOLDERS}/{{report}}/records.parquet",
    output:
        svg=report(
            REPORTS.ablation_files(f"{REPORT_FOLDERS}/{{report}}", "svg"),
            category="Ablations",
            caption="../docs/captions/plots.rst",
        ),
        png=REPORTS.ablation_files(f"{REPORT_FOLDERS}/{{report}}", "png"),
        csv=f"{REPORT_FOLDERS}/{{report}}/ablations.csv",
        markdown=report(
            f"{REPORT_FOLDERS}/{{report}}/ablations.md",
            category="Ablations",
            caption="../docs/captions/ablations.rst",
        ),
    log:
        "results/logs/answer_ablations/{report}.log",
    conda:
        "../envs/pmqbench.yaml"
    resources:
        **RESOURCES.of(RESOURCES.report_work),
    params:
        tasks=list(LAYOUT.tasks),
        ablations=REPORTS.ablations,
        code=REPORTS.code("answer_ablations"),
    script:
        "../scripts/answer_ablations.py"


rule compare_training_seeds:
    input:
        TRAINING_SEEDS.record_files,
    output:
        records=f"{TRAINING_SEEDS.folder}/records.parquet",
        csv=f"{TRAINING_SEEDS.folder}/variance.csv",
        differences=f"{TRAINING_SEEDS.folder}/differences.csv",
        markdown=report(
            f"{TRAINING_SEEDS.folder}/variance.md",
            category="Training seeds",
            caption="../docs/captions/variance.rst",
        ),
        svg=report(
            f"{TRAINING_SEEDS.folder}/variance.svg",
            category="Training seeds",
            caption="../docs/captions/plots.rst",
        ),
        png=f"{TRAINING_SEEDS.folder}/variance.png",
    log:
        f"results/logs/compare_training_seeds/{SUITE.name}.log",
    conda:
        "../envs/pmqbench.yaml"
    resources:
        **RESOURCES.of(RESOURCES.training_seeds_work),
    params:
        suite=SUITE.name,
        tasks=list(LAYOUT.tasks),
        reference=SUITE.reference,
        rows=TRAINING_SEEDS.rows,
        code=REPORTS.code("compare_training_seeds"),
    script:
        "../scripts/compare_training_seeds.py"


rule track_runs:
    input:
        records=f"{REPORT_FOLDERS}/{{report}}/records.parquet",
        curves=f"{REPORT_FOLDERS}/{{report}}/curves.parquet",
        artefacts=REPORTS.logged,
    output:
        f"{REPORT_FOLDERS}/{{report}}/tracked.json",
    log:
        "results/logs/track_runs/{report}.log",
    conda:
        "../envs/pmqbench.yaml"
    resources:
        **RESOURCES.of(RESOURCES.report_work),
    params:
        suite="{report}",
        results=REPORTS.results_folder,
        store=REPORTS.tracking_store(),
        code=REPORTS.code("track_runs"),
    script:
        "../scripts/track_runs.py"


rule join_leaderboards:
    input:
        leaderboards=REPORTS.leaderboards("leaderboard.csv"),
        comparisons=REPORTS.leaderboards("comparisons.csv"),
        records=REPORTS.leaderboards("records.parquet"),
        entries=entry_files(),
    output:
        csv="results/leaderboard.csv",
        markdown="results/leaderboard.md",
        page="results/leaderboard.html",
    log:
        "results/logs/join_leaderboards.log",
    conda:
        "../envs/pmqbench.yaml"
    resources:
        **RESOURCES.of(RESOURCES.all_reports_work),
    params:
        data=DATA,
        made_of=[REPORTS.leaderboards("leaderboard.csv"), entry_files()],
        code=REPORTS.page_code("join_leaderboards"),
    script:
        "../scripts/join_leaderboards.py"
