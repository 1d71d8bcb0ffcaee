# Data, base, experts and zero-shot heads.
rule prepare_task:
    output:
        train=f"{DATA}/{{data_id}}/train{DATA_SUFFIX}",
        validation=f"{DATA}/{{data_id}}/validation{DATA_SUFFIX}",
        test=f"{DATA}/{{data_id}}/test{DATA_SUFFIX}",
        manifest=f"{DATA}/{{data_id}}/manifest.json",
    log:
        "results/logs/prepare_task/{data_id}.log",
    conda:
        "../envs/pmqbench.yaml"
    params:
        task=data_task,
        code=code_hash(*DATA_CODE),
    script:
        "../scripts/prepare_task.py"


rule fetch_base:
    input:
        data=base_inputs,
    output:
        base_files(),
    log:
        f"results/logs/fetch_base/{SUITE.base_id}.log",
    benchmark:
        f"results/benchmarks/fetch_base/{SUITE.base_id}.jsonl"
    conda:
        "../envs/pmqbench.yaml"
    threads: 2 if SUITE.base.trains else 1
    params:
        source=config["base"],
        prompts=base_prompts,
        code=code_hash(SUITE.base.code, FAMILY.__module__),
    script:
        "../scripts/fetch_base.py"


rule build_heads:
    input:
        model_files(BASE),
    output:
        [f"{HEADS}/{task}.safetensors" for task in TASK_PATTERNS],
    log:
        f"results/logs/build_heads/{SUITE.base_id}{TASK_LOG}.log",
    conda:
        "../envs/pmqbench.yaml"
    params:
        family=SUITE.family,
        prompts=task_prompts,
        code=code_hash(FAMILY.__module__),
    script:
        "../scripts/build_heads.py"


rule fetch_expert:
    input:
        unpack(expert_inputs),
    output:
        model_files(f"{MODELS}/{{expert}}"),
    log:
        "results/logs/fetch_expert/{expert}.log",
    benchmark:
        "results/benchmarks/fetch_expert/{expert}.jsonl"
    conda:
        "../envs/pmqbench.yaml"
    threads: JOB_THREADS if SUITE.experts.trains else 1
    params:
        source=expert_source,
        task=expert_task,
        code=code_hash(SUITE.experts.code, FAMILY.__module__),
    script:
        "../scripts/fetch_expert.py"
