"""Kinds of tasks, one file each, called like the kind in a task's definition; `base.py` says what a kind is."""
