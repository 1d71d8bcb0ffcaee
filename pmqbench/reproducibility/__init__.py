"""Whether two runs of a suite made the same: their results folders compared file by file."""

from __future__ import annotations

MEASURED = {
    "seconds": "wall-clock time of a step, a layer or an evaluation",
    "calibration_seconds": "wall-clock time from the experts to a model",
    "peak_memory_mb": "peak memory of the process",
    "git_commit": "the checkout's commit; `code`, the hash of the code that was used, is compared",
    "command": "how the run was started, as its page repeats it",
    "sha256": "checksum of a JSON file's own content, these fields included",
    "files": "checksums of the files beside a manifest, which are compared themselves",
}
"""Keys of JSON and columns of tables that differ from run to run, whatever is computed, wherever they stand."""

CODE = "code"
"""Key of the hash of the code that was used: it may differ where all that was computed with it is the same."""

LEFT_OUT = (
    *("logs", "benchmarks", "states", "README.md", "report.html"),
    *("artefacts", "mlflow.db", "mlflow.db.lock", "tracked.json"),
    *("average_by_calibration_time.svg", "average_by_calibration_time.png"),
)
"""Files and folders that tell of a run: its logs and Snakemake's report, MLflow's copy of the results, a plot of its times."""
