"""The gate before merging: compares each expert with the base and its published value; warns, or stops a strict suite."""

from pmqbench.integrity import write_sealed
from pmqbench.jobs import logger, run_job
from pmqbench.records import read_record
from pmqbench.reporting.gates import check_experts, gate_warnings, refuse


def main(job):
    experts, base = (map(read_record, records) for records in (job.input.experts, job.input.base))
    gates = check_experts(experts, base, **job.params.published)
    if job.params.strict:
        refuse(gates)
    for warning in gate_warnings(gates):
        logger.warning("%s", warning)
    write_sealed(job.output[0], gates)


run_job(main, snakemake)
