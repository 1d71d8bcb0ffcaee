"""`snakemake seeds` of the mini suite, as planned: training it takes minutes."""


def test_every_training_seed_has_jobs_of_its_own_and_data_are_made_once(fresh):
    planned = fresh.planned("--configfile", str(fresh.source / "config/mini.yaml"), "--", "seeds")
    assert planned["prepare_task"] == 4
    assert planned["compare_training_seeds"] == 1
    own = {rule: count for rule, count in planned.items() if not rule.startswith("training_")}
    for seed in (1, 2):
        anew = {
            rule.removeprefix(f"training_{seed}_"): n for rule, n in planned.items() if rule.startswith(f"training_{seed}_")
        }
        assert anew == {rule: own[rule] for rule in anew}
        assert {"fetch_base", "fetch_expert", "merge_experts", "refine_model", "evaluate_merge"} <= anew.keys()
    assert not {"rank_models", "tune_scaling"} & planned.keys()
