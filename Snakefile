"""PMQ-Bench: experts -> merge -> quantize -> evaluate -> compare. A table of contents; the stages are in rules/."""

from snakemake.utils import min_version

min_version("9.25")

if not workflow.overwrite_configfiles:

    # Not source_path(): errors would name its cached copy.
    configfile: f"{workflow.basedir}/config/mini.yaml"


report: "docs/captions/report.rst"


include: "rules/common.smk"
include: "rules/objects.smk"
include: "rules/experts.smk"
include: "rules/merging.smk"
include: "rules/quantization.smk"
include: "rules/evaluation.smk"
include: "rules/report.smk"
include: "rules/export.smk"


# What another training seed than the suite's own makes: the same rules once more, with the seed in their names.
for MODULE, SEED_SUITE in TRAINING_SEEDS.anew().items():

    module:
        name: MODULE
        snakefile:
            "rules/training.smk"
        config:
            {"suite": SEED_SUITE}

    use rule * from MODULE exclude prepare_task, check_experts as MODULE*


onsuccess:
    # `make` shows the leaderboard last, below the page that it makes first.
    if "MAKELEVEL" not in os.environ:
        show_leaderboards(workflow.dag)


onerror:
    list_failures(workflow.scheduler)


rule all:
    default_target: True
    input:
        REPORTS.target_files("all"),


rule full:
    input:
        REPORTS.target_files("full"),


rule ablations:
    input:
        REPORTS.target_files("ablations"),


rule methods:
    input:
        REPORTS.target_files("methods"),


rule seeds:
    input:
        TRAINING_SEEDS.files,


rule export:
    input:
        REPORTS.exported("all"),


rule leaderboard:
    input:
        "results/leaderboard.csv",


rule track:
    input:
        f"{REPORTS.default}/tracked.json",
