"""Merging methods: one file each, registered in base.MERGERS."""
