"""Refinement: what is done to a quantized model with its experts as teachers."""
