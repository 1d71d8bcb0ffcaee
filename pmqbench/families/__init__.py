"""Model families: one file each; see base.py for what a family must tell."""
