"""PMQ-Bench: experts -> merge -> quantize -> evaluate -> compare. A table of contents; the stages are in rules/."""

from snakemake.utils import min_version

min_version("9.25")

if "suite" not in config:

    configfile: workflow.source_path("config/mini.yaml")


include: "rules/common.smk"
include: "rules/inputs.smk"
include: "rules/report_inputs.smk"
include: "rules/experts.smk"
include: "rules/merging.smk"
include: "rules/quantization.smk"
include: "rules/evaluation.smk"
include: "rules/report.smk"
include: "rules/export.smk"


rule all:
    default_target: True
    input:
        target_files("default"),


rule full:
    input:
        target_files("full"),


rule ablations:
    input:
        target_files("ablations"),


rule export:
    input:
        [
            file
            for model in quantized_models("default")
            for file in exported_files(f"{EXPORTED}/{model}")
        ],


rule leaderboard:
    input:
        "results/leaderboard.csv",


rule track:
    input:
        f"{report_folder('default')}/tracked.json",
