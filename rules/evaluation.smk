# Per-task evaluation: one record per model, task and seed. The three rules differ in what they evaluate, not in how.
rule evaluate_model:
    input:
        models=evaluated_files,
        data=test_data,
        manifests=data_manifests,
        readers=task_readers,
    output:
        expand(f"{EVALUATIONS}/{{{{model}}}}/{{tasks}}.json", tasks=TASK_PATTERNS),
    log:
        f"results/logs/evaluate_model/{{model}}{TASK_LOG}.log",
    benchmark:
        f"results/benchmarks/evaluate_model/{{model}}{TASK_LOG}.jsonl"
    wildcard_constraints:
        model=any_of(evaluated_models()),
    conda:
        "../envs/pmqbench.yaml"
    threads: JOB_THREADS
    params:
        family=SUITE.family,
        folders=evaluated_folders,
        tasks=wanted_tasks,
        metrics=wanted_metrics,
        batch_size=SUITE.evaluation_batch,
        code=code_hash(PROTOCOL.__module__, "pmqbench.records", FAMILY.__module__),
    script:
        "../scripts/evaluate_model.py"


use rule evaluate_model as evaluate_expert with:
    output:
        f"{EVALUATIONS}/experts/{{expert}}/{{task}}.json",
    log:
        "results/logs/evaluate_expert/{expert}/{task}.log",
    benchmark:
        "results/benchmarks/evaluate_expert/{expert}/{task}.jsonl"


use rule evaluate_model as evaluate_seeds with:
    output:
        expand(
            f"{EVALUATIONS}/quantized/{{{{merge}}}}/{{{{quantizer}}}}/{{seeds}}/{{tasks}}.json",
            seeds=SEED_PATTERNS,
            tasks=TASK_PATTERNS,
        ),
    log:
        f"results/logs/evaluate_seeds/{{merge}}/{{quantizer}}{SEED_LOG}{TASK_LOG}.log",
    benchmark:
        f"results/benchmarks/evaluate_seeds/{{merge}}/{{quantizer}}{SEED_LOG}{TASK_LOG}.jsonl"


rule check_experts:
    input:
        expert_records,
    output:
        GATES,
    log:
        f"results/logs/check_experts/{SUITE.name}.log",
    conda:
        "../envs/pmqbench.yaml"
    params:
        published=published_experts,
        strict=SUITE.strict,
        code=code_hash("pmqbench.reporting.gates"),
    script:
        "../scripts/check_experts.py"
