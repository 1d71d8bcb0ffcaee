"""PMQ-Bench: a benchmark suite of post-merge quantization. The library behind the Snakemake rules; see docs/architecture.md."""

__version__ = "0.1.0"
