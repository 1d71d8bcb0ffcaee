# The checked suite, and the objects that know its layout: pmqbench/workflow/.
import os
import sys

from pmqbench.config import load_checked
from pmqbench.errors import PMQError
from pmqbench.submissions.folder import entry_files
from pmqbench.workflow.evaluations import Evaluations
from pmqbench.workflow.hooks import (
    list_failures,
    name_log,
    show_leaderboards,
)
from pmqbench.workflow.layout import (
    DATA,
    EVALUATIONS,
    EXPORTED,
    MERGED,
    MODELS,
    QUANTIZED,
    Layout,
    any_of,
)
from pmqbench.workflow.layout import REPORTS as REPORT_FOLDERS
from pmqbench.workflow.quantizations import Quantizations
from pmqbench.workflow.reports import Reports
from pmqbench.workflow.stages import Stages, code_of

try:
    SUITE = load_checked(config, workflow.configfiles)
except PMQError as error:
    # Snakemake would put a line of this file before any exception's message.
    sys.exit(f"error in the config: {error}")

LAYOUT = Layout(SUITE)
STAGES = Stages(LAYOUT, code_of)
QUANTIZATIONS = Quantizations(STAGES)
EVALUATION = Evaluations(QUANTIZATIONS)
REPORTS = Reports(LAYOUT)
SMALL = SUITE.batch_jobs
# Jobs of a small suite run side by side; those of a large one take all cores, one after the other.
JOB_THREADS = 1 if SMALL else max(1, workflow.cores or 1)


# Snakemake 9 looks at all ready jobs once more a second after every look, for its limit of jobs a second, and so on without end:
# each job that is done adds such a chain, and after a hundred the scheduler takes half a core. One machine needs no limit.
onstart:
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None
    name_log(log)


wildcard_constraints:
    data_id=any_of(STAGES.data_tasks),
    head=any_of(STAGES.head_names()),
    expert=any_of(LAYOUT.experts),
    merge=any_of(LAYOUT.merges),
    record=any_of(EVALUATION.record_stems()),
    seed=r"\d+",
    report=any_of(LAYOUT.targets),
    exported=any_of(REPORTS.exportable()),
