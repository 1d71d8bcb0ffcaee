# Quantized models as folders that stock transformers loads: `snakemake export`.
rule export_model:
    input:
        packed=f"{QUANTIZED}/{{quantized}}/packed.safetensors",
        model=[f"{QUANTIZED}/{{quantized}}/{name}" for name in MODEL_FILES],
        merged=merged_manifest,
        base=base_files(),
        experts=[f"{MODELS}/{expert}/manifest.json" for expert in EXPERTS],
        own_records=own_records,
        merged_records=merged_records,
        expert_records=expert_records,
        base_records=model_records(f"base/{SUITE.base_id}"),
    output:
        exported_files(f"{EXPORTED}/{{quantized}}"),
    log:
        "results/logs/export_model/{quantized}.log",
    wildcard_constraints:
        quantized=any_of(
            {model for target in SUITE.targets for model in quantized_models(target)}
        ),
    conda:
        "../envs/pmqbench.yaml"
    params:
        family=SUITE.family,
        tasks=list(TASKS),
        code=code_hash(
            "pmqbench.quantization.export",
            "pmqbench.reporting.model_card",
            FAMILY.__module__,
        ),
    script:
        "../scripts/export_model.py"
