# Quantization of merged models, {quantized} being <merge>/<quantizer>: without data (quantize_model), on calibration samples and
# experts with one seed (calibrate_model), or with all seeds in one job (calibrate_seeds: Quantizations.in_one_job says when).
# Options may be chosen on the validation splits first, and a model may be refined, {quantized} being <merge>/<quantizer>/<refinement>.
rule quantize_model:
    input:
        merged=QUANTIZATIONS.merged_files,
        tuning=QUANTIZATIONS.tuning_files,
    output:
        LAYOUT.quantized_files(f"{QUANTIZED}/{{quantized}}"),
    log:
        "results/logs/quantize_model/{quantized}.log",
    benchmark:
        "results/benchmarks/quantize_model/{quantized}.jsonl"
    wildcard_constraints:
        quantized=any_of(QUANTIZATIONS.uncalibrated()),
    conda:
        "../envs/pmqbench.yaml"
    threads: JOB_THREADS
    resources:
        **RESOURCES.of(RESOURCES.quantizer_work, JOB_THREADS),
    params:
        plan=QUANTIZATIONS.quantizer_plan,
        code=QUANTIZATIONS.quantized_code,
    script:
        "../scripts/quantize_model.py"


use rule quantize_model as calibrate_model with:
    input:
        merged=QUANTIZATIONS.merged_files,
        tuning=QUANTIZATIONS.tuning_files,
        experts=LAYOUT.expert_files(),
        data=LAYOUT.split_files("train"),
        manifests=LAYOUT.data_manifests(),
        base=LAYOUT.base_files(),
    output:
        LAYOUT.quantized_files(f"{QUANTIZED}/{{quantized}}/seed-{{seed}}"),
    log:
        "results/logs/calibrate_model/{quantized}.seed-{seed}.log",
    benchmark:
        "results/benchmarks/calibrate_model/{quantized}.seed-{seed}.jsonl"
    wildcard_constraints:
        quantized=any_of(QUANTIZATIONS.one_by_one()),
    threads: SPREAD_THREADS
    resources:
        **RESOURCES.of(RESOURCES.quantizer_work, SPREAD_THREADS),


use rule calibrate_model as calibrate_seeds with:
    output:
        QUANTIZATIONS.seed_files(),
    log:
        "results/logs/calibrate_seeds/{quantized}.log",
    benchmark:
        "results/benchmarks/calibrate_seeds/{quantized}.jsonl"
    wildcard_constraints:
        quantized=any_of(QUANTIZATIONS.in_one_job),


rule tune_quantizer:
    input:
        **LAYOUT.protocol_inputs(SUITE.tasks),
        merged=QUANTIZATIONS.merged_files,
        experts=LAYOUT.expert_files(),
        data=LAYOUT.split_files("train"),
        validation=LAYOUT.split_files("validation"),
        manifests=LAYOUT.data_manifests(),
        base=LAYOUT.base_files(),
    output:
        f"{QUANTIZED}/{{quantized}}/tuning.json",
    log:
        "results/logs/tune_quantizer/{quantized}.log",
    benchmark:
        "results/benchmarks/tune_quantizer/{quantized}.jsonl"
    wildcard_constraints:
        quantized=any_of(QUANTIZATIONS.tuned()),
    conda:
        "../envs/pmqbench.yaml"
    threads: SPREAD_THREADS
    resources:
        **RESOURCES.of(RESOURCES.quantizer_tuning_work, SPREAD_THREADS),
    params:
        plan=QUANTIZATIONS.tuning_plan,
        code=QUANTIZATIONS.tuning_code,
    script:
        "../scripts/tune_quantizer.py"


# A method's recipes of a merge in one job, in suites whose work is shorter than a job's imports.
for BATCH in QUANTIZATIONS.batches:

    rule:
        name:
            f"calibrate_{BATCH.method}"
        input:
            merged=LAYOUT.model_files(f"{MERGED}/{{merge}}"),
            tuning=QUANTIZATIONS.batch_tuning_files(BATCH),
            experts=LAYOUT.expert_files(),
            data=LAYOUT.split_files("train"),
            manifests=LAYOUT.data_manifests(),
            base=LAYOUT.base_files(),
        output:
            QUANTIZATIONS.seed_files(BATCH),
        log:
            f"results/logs/calibrate_{BATCH.method}/{{merge}}.log",
        benchmark:
            f"results/benchmarks/calibrate_{BATCH.method}/{{merge}}.jsonl"
        wildcard_constraints:
            merge=any_of(BATCH.merges),
        conda:
            "../envs/pmqbench.yaml"
        threads: SPREAD_THREADS
        resources:
            **RESOURCES.of(RESOURCES.batch_work(BATCH), SPREAD_THREADS),
        params:
            plan=QUANTIZATIONS.batch_plan(BATCH),
            code=QUANTIZATIONS.quantizer_code(BATCH.recipes[0]),
        script:
            "../scripts/quantize_model.py"


for BATCH in QUANTIZATIONS.tuning_batches:

    rule:
        name:
            f"tune_{BATCH.method}"
        input:
            **LAYOUT.protocol_inputs(SUITE.tasks),
            merged=LAYOUT.model_files(f"{MERGED}/{{merge}}"),
            experts=LAYOUT.expert_files(),
            data=LAYOUT.split_files("train"),
            validation=LAYOUT.split_files("validation"),
            manifests=LAYOUT.data_manifests(),
            base=LAYOUT.base_files(),
        output:
            QUANTIZATIONS.choices(BATCH),
        log:
            f"results/logs/tune_{BATCH.method}/{{merge}}.log",
        benchmark:
            f"results/benchmarks/tune_{BATCH.method}/{{merge}}.jsonl"
        wildcard_constraints:
            merge=any_of(BATCH.merges),
        conda:
            "../envs/pmqbench.yaml"
        threads: SPREAD_THREADS
        resources:
            **RESOURCES.of(RESOURCES.batch_tuning_work(BATCH), SPREAD_THREADS),
        params:
            plan=QUANTIZATIONS.batch_tuning_plan(BATCH),
            code=QUANTIZATIONS.choice_code(BATCH.recipes[0]),
        script:
            "../scripts/tune_quantizer.py"


rule refine_model:
    input:
        start=QUANTIZATIONS.start_files,
        experts=LAYOUT.expert_files(),
        data=LAYOUT.split_files("train"),
        manifests=LAYOUT.data_manifests(),
        base=LAYOUT.base_files(),
    output:
        LAYOUT.refined_files(f"{QUANTIZED}/{{quantized}}/seed-{{seed}}"),
    log:
        "results/logs/refine_model/{quantized}.seed-{seed}.log",
    benchmark:
        "results/benchmarks/refine_model/{quantized}.seed-{seed}.jsonl"
    wildcard_constraints:
        quantized=any_of(QUANTIZATIONS.refined()),
    conda:
        "../envs/pmqbench.yaml"
    threads: SPREAD_THREADS
    resources:
        **RESOURCES.of(RESOURCES.refinement_work, SPREAD_THREADS),
    params:
        plan=QUANTIZATIONS.refine_plan,
        code=QUANTIZATIONS.refine_code,
    script:
        "../scripts/refine_model.py"
