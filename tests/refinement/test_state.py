"""The state of an unfinished training: what comes back, and that damage is found."""

import torch

from pmqbench.refinement.state import StateFile

CONTENT = {
    "step": 3,
    "best": (0.5, [torch.tensor(2.0)]),
    "optimiser": {"state": {0: {"exp_avg": torch.arange(60.0).reshape(6, 10)}}},
    "half": torch.ones(3, dtype=torch.bfloat16),
}


def test_a_state_comes_back_and_one_flipped_bit_begins_anew(tmp_path, caplog):
    path = tmp_path / "state.pt"
    StateFile(path, "id").save(CONTENT)
    again = StateFile(path, "id").load()
    assert again["step"] == 3
    assert torch.equal(again["optimiser"]["state"][0]["exp_avg"], CONTENT["optimiser"]["state"][0]["exp_avg"])
    whole = path.read_bytes()
    place = whole.index(CONTENT["optimiser"]["state"][0]["exp_avg"].numpy().tobytes())
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert torch.load(path, weights_only=True)["content"]["step"] == 3  # torch alone takes it
    assert StateFile(path, "id").load() is None
    assert "the state is damaged" in caplog.text
