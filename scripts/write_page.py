"""Writes a report's page, and the index from its rows to their files."""

from pmqbench.files import read_json
from pmqbench.jobs import run_job
from pmqbench.reporting.collect import read_table
from pmqbench.reporting.page.command import snakemake_command
from pmqbench.reporting.page.contents import read_csv, suite_contents
from pmqbench.reporting.page.details import gather_details
from pmqbench.reporting.page.index import named_files, write_index
from pmqbench.reporting.page.render import write_page
from pmqbench.reporting.statistics import summarise
from pmqbench.reporting.verdicts import read_pairs, verdict_sentence


def main(job):
    files, records = named_files(job.params.models), read_table(job.input.records)
    write_index(files, job.output.index_json, job.output.index_csv)
    summary = summarise(records, job.params.tasks)
    contents = suite_contents(
        job.params.report,
        read_csv(job.input.leaderboard),
        summary,
        gather_details(records, read_table(job.input.layers), summary, files),
        command=snakemake_command(job.params.configfiles, job.params.changes),
        beside=[*job.params.beside, "report.html"],
        warnings=read_json(job.input.warnings),
        sentence=verdict_sentence(read_pairs(job.input.comparisons)),
    )
    write_page(job.output.page, contents)


run_job(main, snakemake)
