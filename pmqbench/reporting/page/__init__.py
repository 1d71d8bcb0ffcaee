"""leaderboard.html: a report as one self-contained page, and the index from its rows to their files.

`contents.py` and `details.py` gather what the page shows as data, `assets/` holds the template, styles and scripts that show
it, and `render.py` puts both into one file.
"""
