"""From records to tables, plots, MLflow runs and leaderboards; everything here is a function of the records."""

PLOTS = ("tasks_by_method", "average_by_bits", "average_by_size", "deviations_by_layer")
"""Names of a report's plots, each an SVG and a PNG; known here so that the workflow can name files without matplotlib."""
