"""Evaluation: predictions of a model on a task, and the record they become."""
