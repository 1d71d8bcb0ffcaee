# Per-task evaluation: one record per model, task and seed. The rules differ in what one job evaluates, not in how.
rule evaluate_model:
    input:
        unpack(EVALUATION.data),
        models=EVALUATION.model_files,
    output:
        EVALUATION.record_patterns("{model}"),
    log:
        f"results/logs/evaluate_model/{{model}}{'' if SMALL else '.{record}'}.log",
    benchmark:
        f"results/benchmarks/evaluate_model/{{model}}{'' if SMALL else '.{record}'}.jsonl"
    wildcard_constraints:
        model=any_of(EVALUATION.alone()),
    conda:
        "../envs/pmqbench.yaml"
    threads: JOB_THREADS
    resources:
        **RESOURCES.of(RESOURCES.evaluation_work, JOB_THREADS),
    params:
        plan=EVALUATION.plan,
        code=EVALUATION.code(),
    script:
        "../scripts/evaluate_model.py"


use rule evaluate_model as evaluate_expert with:
    output:
        f"{EVALUATIONS}/{{model}}/{{record}}.json",
    log:
        "results/logs/evaluate_expert/{model}.{record}.log",
    benchmark:
        "results/benchmarks/evaluate_expert/{model}.{record}.jsonl"
    wildcard_constraints:
        model=any_of(model.id for model in LAYOUT.expert_models),


use rule evaluate_model as evaluate_seeds with:
    output:
        EVALUATION.seed_record_patterns(),
    log:
        f"results/logs/evaluate_seeds/{{quantized}}{'' if SMALL else '.{record}'}.log",
    benchmark:
        f"results/benchmarks/evaluate_seeds/{{quantized}}{'' if SMALL else '.{record}'}.jsonl"
    wildcard_constraints:
        quantized=any_of(EVALUATION.in_one_job),


if EVALUATION.by_merge:

    use rule evaluate_model as evaluate_merge with:
        output:
            EVALUATION.merge_record_patterns(),
        log:
            "results/logs/evaluate_merge/{merge}.log",
        benchmark:
            "results/benchmarks/evaluate_merge/{merge}.jsonl"
        wildcard_constraints:
            merge=any_of(EVALUATION.by_merge),


rule check_experts:
    input:
        experts=REPORTS.expert_records(),
        base=REPORTS.base_records(),
    output:
        REPORTS.gate,
    log:
        f"results/logs/check_experts/{SUITE.name}.log",
    conda:
        "../envs/pmqbench.yaml"
    resources:
        **RESOURCES.of(RESOURCES.gate_work),
    params:
        published=REPORTS.published_experts(),
        strict=SUITE.strict,
        made_of=[*REPORTS.expert_records(), *REPORTS.base_records()],
        code=REPORTS.code("check_experts"),
    script:
        "../scripts/check_experts.py"
