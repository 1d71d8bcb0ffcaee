"""From records to tables, plots, MLflow runs and leaderboards; everything here is a function of the records."""

from pathlib import Path

PLOTS = tuple(sorted(path.stem for path in (Path(__file__).parent / "plots").glob("[!_]*.py")))
"""Names of a report's plots, each an SVG and a PNG: the files of `plots/`, known so that no workflow imports matplotlib."""

PAGE_ASSETS = Path(__file__).parent / "page" / "assets"
"""Template, styles and scripts of the page leaderboard.html."""
