"""The gate before merging: compares each expert with its published value; warns, or stops a strict suite."""

import sys

from pmqbench.files import write_json
from pmqbench.jobs import logger, run_job
from pmqbench.records import read_record
from pmqbench.reporting.gates import REMEDY, check_experts, gate_warnings, refuse


def main(job):
    gates = check_experts(map(read_record, job.input.experts), **job.params.published)
    warnings = gate_warnings(gates)
    if job.params.strict:
        refuse(warnings)
    for warning in warnings:
        logger.warning("%s", warning)
        sys.stderr.write(f"WARNING: {warning}\n")
    if warnings:
        sys.stderr.write(f"WARNING: {REMEDY}\n")
    write_json(job.output[0], gates)


run_job(main, snakemake)
