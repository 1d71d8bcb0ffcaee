"""What a job of each stage does up to evaluation and export, one module a rule: `main(job)`.

`scripts/` runs them for Snakemake, the command line (`pmqbench/cli/`) without it. A job has what Snakemake gives a script:
`params` (`plan`, what is to be done, and `code`, its hash), `input`, `output` and `threads`.
"""
