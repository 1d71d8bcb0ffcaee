"""Refinement of quantized models towards their experts: options in `base.py` and `methods/`, torch in the other files."""
