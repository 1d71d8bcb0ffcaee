# The checked suite, and what Snakemake is told once for all of its models.
import os
import sys

from pmqbench.config import load_checked
from pmqbench.errors import PMQError
from pmqbench.submissions.folder import entry_files
from pmqbench.workflow.clusters import refuse_orphans
from pmqbench.workflow.hooks import (
    list_failures,
    name_log,
    show_leaderboards,
)

try:
    SUITE = load_checked(config, workflow.configfiles)
except PMQError as error:
    # Snakemake would put a line of this file before any exception's message.
    sys.exit(f"error in the config: {error}")


# Snakemake 9 looks at all ready jobs once more a second after every look, for its limit of jobs a second, and so on without end:
# each job that is done adds such a chain, and after a hundred the scheduler takes half a core. One machine needs no limit.
onstart:
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None
    name_log(log)
    try:
        refuse_orphans()
    except PMQError as error:
        sys.exit(f"error: {error}")
