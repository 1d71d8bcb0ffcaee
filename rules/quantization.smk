# Quantization of merged models: without data (quantize_model), or on calibration samples and experts (calibrate_model).
rule quantize_model:
    input:
        merged=model_files(f"{MERGED}/{{merge}}"),
    output:
        quantized_files(f"{QUANTIZED}/{{merge}}/{{quantizer}}"),
    log:
        "results/logs/quantize_model/{merge}/{quantizer}.log",
    benchmark:
        "results/benchmarks/quantize_model/{merge}/{quantizer}.jsonl"
    wildcard_constraints:
        quantizer=any_of(quantizer_ids(calibrated=False)),
    conda:
        "../envs/pmqbench.yaml"
    threads: JOB_THREADS
    params:
        family=SUITE.family,
        recipe=quantizer_recipe,
        folders=quantized_folder,
        code=quantizer_code,
    script:
        "../scripts/quantize_model.py"


use rule quantize_model as calibrate_model with:
    input:
        merged=model_files(f"{MERGED}/{{merge}}"),
        experts=expert_files(),
        data=[data_file(task, "train") for task in TASKS],
        readers=calibration_readers(),
    output:
        [
            file
            for seed in SEED_PATTERNS
            for file in quantized_files(f"{QUANTIZED}/{{merge}}/{{quantizer}}/{seed}")
        ],
    log:
        f"results/logs/calibrate_model/{{merge}}/{{quantizer}}{SEED_LOG}.log",
    benchmark:
        f"results/benchmarks/calibrate_model/{{merge}}/{{quantizer}}{SEED_LOG}.jsonl"
    wildcard_constraints:
        quantizer=any_of(quantizer_ids(calibrated=True)),
    params:
        family=SUITE.family,
        recipe=quantizer_recipe,
        folders=quantized_seed_folders,
        tasks=list(TASKS),
        seeds=wanted_seeds,
        batch_size=SUITE.calibration_batch,
        code=quantizer_code,
