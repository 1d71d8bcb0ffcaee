"""Greedy answers and their scores."""

import logging
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from pmqbench.errors import DataError
from pmqbench.evaluation.base import Assets
from pmqbench.evaluation.protocols.text_to_text import TextToText
from pmqbench.evaluation.text_to_text import METRICS, answers, exact_match, number, spearman
from pmqbench.families.t5 import T5
from pmqbench.tasks.kinds.text_to_text import TextTask
from pmqbench.tasks.text import load_tokenizer, save_examples
from tests.families.t5_toy import save, tiny_t5
from tests.t5.toy import write_tokenizer

PROMPTS = ["is it so", "a", "no way that it is so as it is", "so so", "is a way", "it", "that is no way"]


@pytest.fixture(scope="module")
def model_and_tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("t5")
    write_tokenizer(folder, PROMPTS, size=40)
    save(tiny_t5("gated"), folder, "gated")
    return T5().build(folder), load_tokenizer(folder / "tokenizer.json")


def test_answers_do_not_depend_on_the_batch_size(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer
    one = answers(model, tokenizer, PROMPTS, 1, "")
    assert len(set(one)) > 1
    for size in (2, 3, 100):
        assert answers(model, tokenizer, PROMPTS, size, "") == one


class Echo:
    """Answers with the first tokens of the prompt."""

    def generate(self, batch, max_length, where):
        assert max_length == 10
        return torch.cat([torch.zeros(len(batch["input_ids"]), 1, dtype=torch.long), batch["input_ids"]], 1)[:, :max_length]


def test_answers_come_in_the_order_of_the_prompts(model_and_tokenizer):
    short = [prompt for prompt in PROMPTS if len(prompt) < 9]
    assert answers(Echo(), model_and_tokenizer[1], short, 2, "") == short


def word_tokenizer(*words):
    """A token a word, spaces as one, and an end token."""
    vocabulary = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return tokenizer


def test_spaces_around_answers_and_targets_do_not_count():
    assert exact_match([" yes", "yes\n", "y es"], ["yes ", "yes", "yes"], "").correct.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("so " * 9, None),
        (" is it  ", None),
        ("so " * 10, r'the target "so so .*" of the prompt "why" has 10 tokens; answers end after 9\.'),
        ("so  so", r'the target "so  so" of the prompt "why" is "so so" when'),
        ("so {x}", r'the target "so {x}" of the prompt "why" is "so.*" when'),
    ],
)
def test_targets_that_no_answer_can_be(tmp_path, target, words):
    split = tmp_path / "test.jsonl"
    save_examples(split, [("is", "so"), ("why", target), ("what", target)], "")
    folder = tmp_path / "base"
    folder.mkdir()
    word_tokenizer("so", "is", "it").save(str(folder / "tokenizer.json"))
    protocol = TextToText()
    for read in (
        lambda: protocol.examples(split, Assets(folder)),
        lambda: protocol.calibration_batches(split, folder, "mine", 3, 0, 2),
    ):
        if words is None:
            assert read()
        else:
            with pytest.raises(DataError, match=rf"test\.jsonl: {words}"):
                read()


def test_exact_match_is_letter_by_letter():
    score = exact_match(["yes", "Yes", "yes.", "no", ""], ["yes", "yes", "yes", "no", "no"], "")
    assert score.correct.tolist() == [True, False, False, True, False]
    assert score.value == pytest.approx(0.4)
    assert score.standard_error == pytest.approx((0.4 * 0.6 / 5) ** 0.5)
    assert score.n == 5


def ranks(values):
    """Average ranks of ties, by counting."""
    return np.array([sum(other < value for other in values) + (values.count(value) + 1) / 2 for value in values])


def test_spearman_equals_the_definition():
    made = ["1.0", "4.5", "three", "3.0", "2.2", "4.5", "nan"]
    targets = ["0.5", "4.0", "1.0", "5.0", "2.0", "3.5", "1.5"]
    a, b = ranks([1.0, 4.5, 0.0, 3.0, 2.2, 4.5, 0.0]), ranks([float(text) for text in targets])
    rho = ((a - a.mean()) * (b - b.mean())).sum() / np.sqrt(((a - a.mean()) ** 2).sum() * ((b - b.mean()) ** 2).sum())
    score = spearman(made, targets, "")
    assert score.value == pytest.approx(rho)
    assert score.standard_error == pytest.approx((1 - rho**2) * ((1 + rho**2 / 2) / 4) ** 0.5)
    assert score.correct is None


def test_standard_error_of_rho_is_that_of_many_samples():
    rng = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(300):
        pair = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 100)
        score = spearman([str(x) for x in pair[:, 0]], [str(x) for x in pair[:, 1]], "")
        values.append(score.value)
        errors.append(score.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


def test_equal_answers_have_no_rank_correlation(caplog):
    with caplog.at_level(logging.WARNING):
        score = spearman(["1.0"] * 5, ["1", "2", "3", "4", "5"], "merged model, task glue-stsb")
    assert score.value == 0
    assert "merged model, task glue-stsb: every answer is 1" in caplog.text


@pytest.mark.parametrize(("text", "value"), [("3.8", 3.8), (" 2 ", 2), ("", 0), ("two", 0), ("inf", 0), ("nan", 0)])
def test_numbers(text, value):
    assert number(text) == value


def test_every_metric_of_a_definition_exists():
    assert METRICS.keys() == set(get_args(get_type_hints(TextTask)["metric"]))
