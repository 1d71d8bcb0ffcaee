# The checked suite, and the objects that know its layout: pmqbench/workflow/.
import os
import sys

from pmqbench.config import load_checked
from pmqbench.errors import PMQError
from pmqbench.workflow.evaluations import Evaluations
from pmqbench.workflow.hooks import list_failures, show_leaderboards
from pmqbench.workflow.layout import (
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

# Snakemake looks at all ready jobs again a second after every look, for its limit of jobs a second, and each job that ends adds
# such a chain: after a hundred jobs the scheduler takes half a core. Nobody needs the limit on one machine.
if workflow.resource_settings.nodes is None and workflow.scheduling_settings:
    workflow.scheduling_settings.max_jobs_per_timespan = None

LAYOUT = Layout(SUITE)
STAGES = Stages(LAYOUT, code_of)
QUANTIZATIONS = Quantizations(STAGES)
EVALUATION = Evaluations(QUANTIZATIONS)
REPORTS = Reports(LAYOUT)
SMALL = SUITE.batch_jobs
# Jobs of a small suite run side by side; those of a large one take all cores, one after the other.
JOB_THREADS = 1 if SMALL else max(1, workflow.cores or 1)


wildcard_constraints:
    data_id=any_of(STAGES.data_tasks),
    head=any_of(STAGES.head_names()),
    expert=any_of(LAYOUT.experts),
    merge=any_of(LAYOUT.merges),
    record=any_of(EVALUATION.record_stems()),
    seed=r"\d+",
    report=any_of(LAYOUT.targets),
    exported=any_of(REPORTS.exportable()),
