"""Post-training and post-merge quantization: one layer loop (calibrate.py), targets, solvers, and one file per method."""
