"""Every format, loaded by stock transformers in a process that cannot import this project: the weights bit for bit."""

import json
import subprocess
import sys
from itertools import product

import pytest
import torch
from safetensors.torch import save_file

from pmqbench.families.base import FAMILIES
from pmqbench.files import write_json
from pmqbench.quantization.calibrate import quantize_model
from pmqbench.quantization.export import export_model, exported_weights
from pmqbench.quantization.methods.rtn import Rtn
from pmqbench.quantization.packing import save_packed
from tests.families.bert_toy import tiny_bert
from tests.families.clip_toy import save_processor
from tests.families.t5_toy import SIZES
from tests.workflow.conftest import TEXT, environment
from tests.workflow.conftest import VISION as OPEN_CLIP

GRIDS = [
    {"bits": bits, "group_size": group, "symmetric": symmetric}
    for bits, group, symmetric in product((2, 3, 4, 8), (None, 16), (True, False))
]
MIXED = [{"group_size": group, "symmetric": symmetric} for group, symmetric in product((None, 16), (True, False))]
CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
    "hidden_act": "gelu",
}
LOAD = """
import json, sys, torch, transformers
sys.modules["pmqbench"] = None  # as where it is not installed
from safetensors.torch import load_file
for folder, (loader, arguments) in json.loads(sys.argv[1]).items():
    expected = load_file(folder + "/expected.safetensors")
    model, report = getattr(transformers, loader).from_pretrained(folder, output_loading_info=True, **arguments)
    packed = any(name.endswith("weight_packed") for name in model.state_dict())
    if packed:
        model.hf_quantizer.compressor.decompress_model(model)  # what the first forward pass does
    state = model.state_dict()
    wrong = [name for name, tensor in expected.items() if not torch.equal(state[name], tensor)]
    print(json.dumps([folder, packed, wrong, sorted(report["missing_keys"]), sorted(report["unexpected_keys"])]))
"""


class SeveralWidths(Rtn):
    """Rounds to nearest, the layers in turn at 2, 3, 4 and 8 bits."""

    def __init__(self, model, **grid):
        super().__init__(**grid)
        names = [layer for block in model.blocks for group in block.groups for layer in group.layers]
        self.__dict__["widths"] = {name: (2, 3, 4, 8)[index % 4] for index, name in enumerate(names)}

    def solve(self, problem):
        grid = {name: getattr(self, name) for name in ("group_size", "symmetric")}
        return Rtn(bits=self.widths[problem.names[0]], **grid).solve(problem)


def clip_model(folder):
    family = FAMILIES.get("clip")()
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    CLIPVisionModel(CLIPVisionConfig(**CLIP)).save_pretrained(folder)
    save_processor(folder)
    return family


def open_clip_model(folder):
    import open_clip

    torch.manual_seed(0)
    model_cfg = {"embed_dim": 24, "vision_cfg": OPEN_CLIP, "text_cfg": TEXT}
    folder.mkdir()
    save_file(open_clip.CLIP(**model_cfg).state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
    write_json(folder / "open_clip_config.json", {"model_cfg": model_cfg, "preprocess_cfg": preprocess})
    return FAMILIES.get("open_clip")()


def t5_model(folder):
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    sizes = SIZES | {"d_model": 32, "d_kv": 16, "num_heads": 2, "d_ff": 48}
    config = T5Config(**sizes, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return FAMILIES.get("t5")()


def bert_model(folder):
    tiny_bert().save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return FAMILIES.get("bert")()


MAKERS = {"bert": bert_model, "clip": clip_model, "open_clip": open_clip_model, "t5": t5_model}


@pytest.mark.parametrize("name", FAMILIES.names())
def test_transformers_loads_the_quantized_weights(name, tmp_path):
    family, exported = MAKERS[name](tmp_path / "model"), {}
    grids = [*GRIDS, *MIXED, {"bits": 16, "group_size": None, "symmetric": False}]
    for index, grid in enumerate(grids):
        model = family.build(tmp_path / "model")
        method = SeveralWidths(model, **grid) if grid in MIXED else Rtn(**grid)
        made = quantize_model(model, method, {}, {})
        assert len({coded.bits for coded in made.codes.values()}) == (4 if grid in MIXED else grid["bits"] != 16)
        save_packed(tmp_path / "packed.safetensors", made.tensors, made.codes)
        deployed = family.deployed(tmp_path / "model", tmp_path / "model")
        folder = tmp_path / str(index)
        with exported_weights(tmp_path / "packed.safetensors", deployed, grid) as weights:
            export_model(folder, weights, deployed, grid, "A card.")
        save_file({name: tensor.contiguous() for name, tensor in made.tensors.items()}, folder / "expected.safetensors")
        exported[str(folder)] = deployed.loader, deployed.arguments
        assert set(family.exported_files) <= {path.name for path in folder.iterdir()}
    command = [sys.executable, "-I", "-c", LOAD, json.dumps(exported)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(results) == len(grids)
    assert [result for result in results if any(result[2:])] == []
    late = [str(tmp_path / str(grids.index(grid))) for grid in MIXED if grid["symmetric"] and name != "t5"]
    assert [folder for folder, packed, *_ in results if packed] == late
