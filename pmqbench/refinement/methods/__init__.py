"""Refinement methods: one file each, called like the method; see ../base.py for what a method must tell."""
