# Data, base, experts and zero-shot heads.
rule prepare_task:
    output:
        **LAYOUT.data_files("{data_id}"),
    log:
        "results/logs/prepare_task/{data_id}.log",
    benchmark:
        "results/benchmarks/prepare_task/{data_id}.jsonl"
    conda:
        "../envs/pmqbench.yaml"
    resources:
        **RESOURCES.of(RESOURCES.data_work),
    params:
        plan=STAGES.data_plan,
        code=STAGES.data_code,
    script:
        "../scripts/prepare_task.py"


rule fetch_base:
    input:
        data=STAGES.base_inputs(),
        manifests=STAGES.base_manifests(),
    output:
        LAYOUT.base_files(),
    log:
        f"results/logs/fetch_base/{SUITE.base_id}.log",
    benchmark:
        f"results/benchmarks/fetch_base/{SUITE.base_id}.jsonl"
    conda:
        "../envs/pmqbench.yaml"
    threads: 2 if SUITE.base.trains else 1
    resources:
        **RESOURCES.of(RESOURCES.base_work),
    params:
        plan=STAGES.base_plan,
        code=STAGES.base_code(),
    script:
        "../scripts/fetch_base.py"


rule fetch_expert:
    input:
        unpack(STAGES.expert_inputs),
    output:
        LAYOUT.model_files(f"{MODELS}/{{expert}}"),
    log:
        "results/logs/fetch_expert/{expert}.log",
    benchmark:
        "results/benchmarks/fetch_expert/{expert}.jsonl"
    conda:
        "../envs/pmqbench.yaml"
    resources:
        **RESOURCES.of(RESOURCES.expert_work),
    params:
        plan=STAGES.expert_plan,
        code=STAGES.expert_code(),
    script:
        "../scripts/fetch_expert.py"


rule build_heads:
    input:
        LAYOUT.base_files(),
    output:
        STAGES.head_outputs(),
    log:
        f"results/logs/build_heads/{SUITE.base_id}{'' if SMALL else '.{head}'}.log",
    benchmark:
        f"results/benchmarks/build_heads/{SUITE.base_id}{'' if SMALL else '.{head}'}.jsonl"
    conda:
        "../envs/pmqbench.yaml"
    resources:
        **RESOURCES.of(RESOURCES.head_work),
    params:
        plan=STAGES.head_plan,
        code=STAGES.head_code(),
    script:
        "../scripts/build_heads.py"
