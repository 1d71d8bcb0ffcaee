# Merging; a scaling may be chosen on the validation splits first. Some merges see samples (calibrate_merge).
rule tune_scaling:
    input:
        **LAYOUT.protocol_inputs(SUITE.tasks),
        base=LAYOUT.base_files(),
        experts=LAYOUT.expert_files(),
        data=LAYOUT.split_files("validation"),
        manifests=LAYOUT.data_manifests(),
        gate=ancient(REPORTS.gates_before_merging()),
    output:
        f"{MERGED}/{{merge}}/tuning.json",
    log:
        "results/logs/tune_scaling/{merge}.log",
    benchmark:
        "results/benchmarks/tune_scaling/{merge}.jsonl"
    conda:
        "../envs/pmqbench.yaml"
    threads: JOB_THREADS
    resources:
        **RESOURCES.of(RESOURCES.merge_tuning_work, JOB_THREADS),
    params:
        plan=STAGES.tuning_plan,
        code=STAGES.tuning_code,
    script:
        "../scripts/tune_scaling.py"


rule merge_experts:
    input:
        base=LAYOUT.base_files(),
        experts=LAYOUT.expert_files(),
        tuning=STAGES.tuning_file,
        gate=ancient(REPORTS.gates_before_merging()),
    output:
        LAYOUT.model_files(f"{MERGED}/{{merge}}"),
    log:
        "results/logs/merge_experts/{merge}.log",
    benchmark:
        "results/benchmarks/merge_experts/{merge}.jsonl"
    wildcard_constraints:
        merge=any_of(STAGES.merges(calibrated=False)),
    conda:
        "../envs/pmqbench.yaml"
    threads: JOB_THREADS
    resources:
        **RESOURCES.of(RESOURCES.merge_work, JOB_THREADS),
    params:
        plan=STAGES.merge_plan,
        code=STAGES.merge_code,
    script:
        "../scripts/merge_experts.py"


rule calibrate_merge:
    input:
        base=LAYOUT.base_files(),
        experts=LAYOUT.expert_files(),
        data=LAYOUT.split_files("train"),
        manifests=LAYOUT.data_manifests(),
        gate=ancient(REPORTS.gates_before_merging()),
    output:
        LAYOUT.model_files(f"{MERGED}/{{merge}}"),
    log:
        "results/logs/calibrate_merge/{merge}.log",
    benchmark:
        "results/benchmarks/calibrate_merge/{merge}.jsonl"
    wildcard_constraints:
        merge=any_of(STAGES.merges(calibrated=True)),
    conda:
        "../envs/pmqbench.yaml"
    threads: SPREAD_THREADS
    resources:
        **RESOURCES.of(RESOURCES.merge_work, SPREAD_THREADS),
    params:
        plan=STAGES.merge_plan,
        code=STAGES.merge_code,
    script:
        "../scripts/calibrate_merge.py"
