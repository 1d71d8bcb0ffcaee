"""Config files of models from elsewhere: another model, or an error; never a giant one that fits no file."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmqbench.errors import PMQError
from pmqbench.families.base import FAMILIES
from pmqbench.files import read_json
from tests.families.bert_toy import tiny_bert
from tests.families.clip_toy import save_open_clip, save_processor, tuned_tower, whole_clip
from tests.families.t5_toy import save, tiny_t5
from tests.fuzz.inputs import changed, damaged
from tests.fuzz.survival import outcome


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny model of every family."""
    made = {name: tmp_path_factory.mktemp(name) for name in ("bert", "clip", "open_clip", "t5")}
    tiny_bert().save_pretrained(made["bert"])
    tuned_tower(whole_clip()[0]).save_pretrained(made["clip"])
    save_processor(made["clip"])
    save_open_clip(made["open_clip"], keep="visual.")
    save(tiny_t5("gated"), made["t5"], "gated")
    return made


@pytest.mark.parametrize("name", FAMILIES.names())
@given(data=st.data())
def test_configs(name, data, folders):
    folder, family = folders[name], FAMILIES.get(name)()
    files = sorted({family.config_file, *family.side_files})
    file = folder / data.draw(st.sampled_from(files))
    whole = file.read_bytes()
    try:
        content = data.draw(changed(json.loads(whole)).map(json.dumps).map(str.encode) | damaged(whole))
        file.write_bytes(content)
        config = outcome(read_json, folder / family.config_file)
        if isinstance(config, PMQError) or not isinstance(config, dict):
            return
        shapes = outcome(family.linear_shapes, config)
        if not isinstance(shapes, PMQError):
            assert all(side >= 1 for shape in shapes.values() for side in shape)
        if isinstance(outcome(family.traits, folder), PMQError):
            return
        outcome(family.check_like, folder, folder, "expert")
        outcome(family.build, folder, "expert")
    finally:
        file.write_bytes(whole)
