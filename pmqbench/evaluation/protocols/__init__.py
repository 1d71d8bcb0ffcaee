"""Evaluation protocols: one file each; see ../base.py for what a protocol must tell."""
