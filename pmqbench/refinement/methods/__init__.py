"""Refinement methods: one file each, registered in base.REFINERS."""
