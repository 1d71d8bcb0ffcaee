"""A question of the config, from recipes to its figure and sentence."""

import yaml

QUESTION = {
    "question": "How many samples?",
    "merges": ["ta"],
    "quantizers": ["gptq"],
    "vary": "calibration_samples",
    "values": [8, 16],
    "baseline": 16,
}


def test_a_question_is_answered_and_nothing_is_made_twice(edited):
    asked = {"targets": {"ablations": {"figures": {"samples": QUESTION}}}}
    (edited.work / "asked.yaml").write_text(yaml.safe_dump(asked))
    arguments = ("--configfile", "tiny.yaml", "asked.yaml", "--", "ablations")
    planned = edited.planned(*arguments)
    assert planned["calibrate_seeds"] == planned["evaluate_seeds"] == planned["answer_ablations"] == 1
    assert not {"merge_experts", "quantize_model", "plot_comparison"} & planned.keys()
    edited.snakemake(*arguments)
    folder = edited.work / "results/suites/tiny@ablations"
    text = (folder / "ablations.md").read_text()
    assert "## How many samples?" in text
    assert "Against 16, " in text
    assert (folder / "ablations/samples.svg").stat().st_size > 10_000
    assert (folder / "ablations/samples.png").stat().st_size > 10_000
    assert len((folder / "ablations.csv").read_text().splitlines()) == 3
    leaderboard = (folder / "leaderboard.csv").read_text()
    assert "gptq-samples-8" in leaderboard
    assert not (folder / "plots").exists()
    assert "Nothing to be done" in edited.snakemake("-n", *arguments)
