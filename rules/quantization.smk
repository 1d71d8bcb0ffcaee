# Quantization of merged models, {quantized} being <merge>/<quantizer>: without data (quantize_model), on calibration samples and
# experts with one seed (calibrate_model), or with all seeds in one job (calibrate_seeds: Stages.in_one_job says when).
rule quantize_model:
    input:
        merged=STAGES.merged_files,
    output:
        LAYOUT.quantized_files(f"{QUANTIZED}/{{quantized}}"),
    log:
        "results/logs/quantize_model/{quantized}.log",
    benchmark:
        "results/benchmarks/quantize_model/{quantized}.jsonl"
    wildcard_constraints:
        quantized=any_of(STAGES.uncalibrated()),
    conda:
        "../envs/pmqbench.yaml"
    threads: JOB_THREADS
    params:
        plan=STAGES.quantizer_plan,
        code=STAGES.quantized_code,
    script:
        "../scripts/quantize_model.py"


use rule quantize_model as calibrate_model with:
    input:
        merged=STAGES.merged_files,
        experts=LAYOUT.expert_files(),
        data=LAYOUT.split_files("train"),
        base=LAYOUT.protocol_files(),
    output:
        LAYOUT.quantized_files(f"{QUANTIZED}/{{quantized}}/seed-{{seed}}"),
    log:
        "results/logs/calibrate_model/{quantized}.seed-{seed}.log",
    benchmark:
        "results/benchmarks/calibrate_model/{quantized}.seed-{seed}.jsonl"
    wildcard_constraints:
        quantized=any_of(STAGES.one_by_one()),


use rule calibrate_model as calibrate_seeds with:
    output:
        [
            file
            for folder in STAGES.seed_folders()
            for file in LAYOUT.quantized_files(folder)
        ],
    log:
        "results/logs/calibrate_seeds/{quantized}.log",
    benchmark:
        "results/benchmarks/calibrate_seeds/{quantized}.jsonl"
    wildcard_constraints:
        quantized=any_of(STAGES.in_one_job),
