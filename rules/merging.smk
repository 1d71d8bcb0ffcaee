# Merging; a scaling may be chosen on the validation splits first.
rule tune_scaling:
    input:
        base=model_files(BASE),
        experts=expert_files(),
        data=[data_file(task, "validation") for task in TASKS],
        readers=[reader_file(task) for task in TASKS],
        gate=gate_file(),
    output:
        f"{MERGED}/{{merge}}/tuning.json",
    log:
        "results/logs/tune_scaling/{merge}.log",
    benchmark:
        "results/benchmarks/tune_scaling/{merge}.jsonl"
    conda:
        "../envs/pmqbench.yaml"
    threads: JOB_THREADS
    params:
        family=SUITE.family,
        recipe=merge_recipe,
        tasks=list(TASKS),
        metrics=[task.metric for task in SUITE.tasks],
        batch_size=SUITE.evaluation_batch,
        code=merge_code,
    script:
        "../scripts/tune_scaling.py"


rule merge_experts:
    input:
        base=model_files(BASE),
        experts=expert_files(),
        tuning=tuning_file,
        gate=gate_file(),
    output:
        model_files(f"{MERGED}/{{merge}}"),
    log:
        "results/logs/merge_experts/{merge}.log",
    benchmark:
        "results/benchmarks/merge_experts/{merge}.jsonl"
    conda:
        "../envs/pmqbench.yaml"
    threads: JOB_THREADS
    params:
        family=SUITE.family,
        recipe=merge_recipe,
        tasks=list(TASKS),
        code=merge_code,
    script:
        "../scripts/merge_experts.py"
