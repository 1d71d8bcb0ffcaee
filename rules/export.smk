# Quantized models as folders that stock transformers loads: `snakemake export`.
rule export_model:
    input:
        unpack(REPORTS.export_inputs),
    output:
        LAYOUT.exported_files(f"{EXPORTED}/{{exported}}"),
    log:
        "results/logs/export_model/{exported}.log",
    benchmark:
        "results/benchmarks/export_model/{exported}.jsonl"
    conda:
        "../envs/pmqbench.yaml"
    resources:
        **RESOURCES.of(RESOURCES.export_work),
    params:
        plan=REPORTS.export_plan,
        made_of=REPORTS.export_records,
        code=LAYOUT.code("export_model"),
    script:
        "../scripts/export_model.py"
