"""Zero-shot classification against a plain float64 computation."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pmqbench.errors import NumericalError
from pmqbench.evaluation.protocols.zero_shot import classify, load_head


class Pixels(torch.nn.Module):
    """A "tower" whose features are the flattened pixels."""

    def forward(self, batch):
        return batch.float().flatten(1) / 255


def batches(images, labels, size):
    return zip(images.split(size), labels.split(size), strict=True)


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (37, 3, 2, 2), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 5, (37,), generator=generator)
    head = {
        "classes": torch.nn.functional.normalize(torch.randn(5, 7, generator=generator), dim=-1),
        "projection": torch.randn(7, 12, generator=generator),
        "logit_scale": torch.tensor(20.0),
    }
    return head, images, labels


def test_accuracy_and_loss_equal_the_definition(case):
    head, images, labels = case
    outcome = classify(Pixels(), head, batches(images, labels, 8), "cpu", "")
    x = images.numpy().reshape(37, 12).astype(np.float64) / 255
    features = x @ head["projection"].numpy().astype(np.float64).T
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    logits = 20 * features @ head["classes"].numpy().astype(np.float64).T
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(37), labels]
    assert outcome.correct.tolist() == (logits.argmax(1) == labels.numpy()).tolist()
    np.testing.assert_allclose(outcome.loss.numpy(), losses, rtol=1e-4, atol=1e-5)
    share = (logits.argmax(1) == labels.numpy()).mean()
    score = outcome.score()
    assert score.value == pytest.approx(share)
    assert score.standard_error == pytest.approx((share * (1 - share) / 37) ** 0.5)
    assert score.loss == pytest.approx(losses.mean(), rel=1e-5)


def test_batch_size_does_not_matter(case):
    head, images, labels = case
    one, all_at_once = (classify(Pixels(), head, batches(images, labels, size), "cpu", "") for size in (1, 64))
    assert torch.equal(one.correct, all_at_once.correct)


def test_broken_outputs_are_an_error(case):
    head, images, labels = case
    head["projection"][0, 0] = float("inf")
    with pytest.raises(NumericalError, match=r"merged model, task digits.*NaN or Inf"):
        classify(Pixels(), head, batches(images, labels, 8), "cpu", "merged model, task digits")


def test_a_head_without_projection_compares_the_features_themselves(case):
    head, images, labels = case
    head["classes"] = torch.nn.functional.normalize(head["classes"] @ head["projection"], dim=-1)
    plain = {name: tensor for name, tensor in head.items() if name != "projection"}
    projected = classify(Pixels(), head | {"projection": torch.eye(12)}, batches(images, labels, 8), "cpu", "")
    torch.testing.assert_close(classify(Pixels(), plain, batches(images, labels, 8), "cpu", "").loss, projected.loss)


def test_classes_that_are_one_to_the_text_encoder_are_a_warning(tmp_path, caplog):
    rows = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    save_file({"classes": rows, "logit_scale": torch.tensor(1.0)}, tmp_path / "digits-0.safetensors")
    load_head(tmp_path / "digits-0.safetensors")
    assert caplog.messages == []
    rows[3] = rows[1] * (1 + 1e-7)
    save_file({"classes": rows, "logit_scale": torch.tensor(1.0)}, tmp_path / "digits-0.safetensors")
    load_head(tmp_path / "digits-0.safetensors")
    (message,) = caplog.messages
    assert "head digits-0: classes 1 and 3 (counted from 0; 1 such pairs) are one to the text encoder" in message
