# The objects that know where the artefacts of SUITE are and how they are made: pmqbench/workflow/.
from pmqbench.workflow.evaluations import Evaluations
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
from pmqbench.workflow.resources import JobResources
from pmqbench.workflow.stages import Stages, code_of
from pmqbench.workflow.training_seeds import TrainingSeeds

LAYOUT = Layout(SUITE)
STAGES = Stages(LAYOUT, code_of, in_job=not workflow.is_main_process)
QUANTIZATIONS = Quantizations(STAGES)
EVALUATION = Evaluations(QUANTIZATIONS)
REPORTS = Reports(LAYOUT)
TRAINING_SEEDS = TrainingSeeds(LAYOUT)
SMALL = SUITE.batch_jobs
# Jobs of a small suite run side by side; those of a large one take all cores of this machine, one after the other, or as many
# side by side as GPUs are given (--resources gpu=N). Jobs of a cluster, when they are submitted as when they run, have as many
# threads as the config says: threads decide rounding.
ON_CLUSTER = workflow.remote_exec or workflow.resource_settings.nodes is not None
GPUS_HERE = max(1, workflow.global_resources.get("gpu").value or 1)
LARGE_THREADS = (
    SUITE.job_threads if ON_CLUSTER else max(1, (workflow.cores or 1) // GPUS_HERE)
)
JOB_THREADS = 1 if SMALL else LARGE_THREADS
# What spreads over processes has a thread for each.
SPREAD_THREADS = max(JOB_THREADS, SUITE.processes)
RESOURCES = JobResources(EVALUATION)


wildcard_constraints:
    data_id=any_of(STAGES.data_tasks),
    head=any_of(STAGES.head_names()),
    expert=any_of(LAYOUT.experts),
    merge=any_of(LAYOUT.merges),
    record=any_of(EVALUATION.record_stems()),
    seed=r"\d+",
    report=any_of(LAYOUT.targets),
    exported=any_of(REPORTS.exportable()),
