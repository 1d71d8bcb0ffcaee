"""Quantization methods: one file each, registered in base.QUANTIZERS."""
