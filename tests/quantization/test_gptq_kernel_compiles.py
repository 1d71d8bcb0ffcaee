"""The GPU's kernel as code of a GPU: it compiles without one, and rounds products as the plain loop does."""

import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="Triton comes with torch on Linux alone")
def test_the_kernel_compiles_for_an_h100(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pmqbench.quantization.columns import BLOCK
    from pmqbench.quantization.gptq_kernel import OUTPUTS, _round_block

    types = dict.fromkeys(_round_block.arg_names, "*fp32") | {"groups": "*i64", "held": "constexpr", "taken": "constexpr"}
    types |= dict.fromkeys(("size", "outputs", "stride"), "i32")
    source = ASTSource(fn=_round_block, signature=types, constexprs={"held": BLOCK, "taken": OUTPUTS})
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False})
    assert len(made.asm["cubin"]) > 0
    assert "div.rn" in made.asm["ptx"]  # as torch divides; Triton's own division is not rounded exactly
    assert "fma" not in made.asm["ptx"]
    assert ".local" not in made.asm["ptx"]  # registers hold a block of columns
