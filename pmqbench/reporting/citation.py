"""How to cite PMQ-Bench and the paper that it reproduces, as `CITATION.cff` has it."""

from pmqbench import __version__

BIBTEX = f"""\
@software{{pmqbench,
  title = {{PMQ-Bench: a benchmark suite of post-merge quantization}},
  author = {{{{The PMQ-Bench maintainers}}}},
  version = {{{__version__}}},
  license = {{Apache-2.0}}
}}

@article{{epmq,
  title = {{E-PMQ: Expert-Guided Post-Merge Quantization with Merged-Weight Anchoring}},
  author = {{Wang, Wenjun and Gu, Yanggan and Cai, Shuo and Wang, Yuanyi and Wang, Pengkai and Wu, Jianmin and Yang, Hongxia}},
  journal = {{arXiv:2605.16882}},
  year = {{2026}}
}}
"""
