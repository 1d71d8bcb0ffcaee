"""Records of several training seeds: averages and paired differences with the components of their variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from pmqbench.errors import DataError
from pmqbench.reporting.comparisons import comparable
from pmqbench.reporting.entries import ENTRY, arrange, task_outcomes
from pmqbench.reporting.inference import holm, t_interval
from pmqbench.reporting.variance import average_of, components, errors_of_mean

COMPONENTS = ("training", "calibration", "examples")


@dataclass(frozen=True)
class Trained:
    """The outcomes of E entries under A training seeds.

    Attributes:
        seeds: the training seeds.
        entries: E rows with ENTRY.
        calibrated: (E,) whether calibration seeds enter.
        outcomes: per entry and task (A, S, n) of 0 and 1; S is 1 where no calibration seed enters.
    """

    seeds: tuple[int, ...]
    entries: pd.DataFrame
    calibrated: np.ndarray
    outcomes: tuple[tuple[np.ndarray, ...], ...]


def arrange_training(records: pd.DataFrame, tasks: Sequence[str]) -> Trained:
    """Arranges records by training seed.

    Args:
        records: as from `collect`, with `training_seed`.
        tasks: the suite's tasks in order.

    Raises:
        DataError: as from `arrange`, and for seeds that differ in their models, test examples or calibration seeds, and metrics
            without an outcome for each example.
    """
    runs = {int(seed): arrange(rows, tasks) for seed, rows in records.groupby("training_seed", sort=True)}
    first = next(iter(runs.values()))
    for seed, other in runs.items():
        if not other.entries.equals(first.entries) or other.seeds != first.seeds:
            raise DataError("its models are not those of the others.", where=f"training seed {seed}", remedy="Run it again.")
    by_task = [np.stack([_correct(other, column, task) for other in runs.values()]) for column, task in enumerate(tasks)]
    outcomes = tuple(tuple(correct[:, members] for correct in by_task) for members in first.members)
    calibrated = np.array([None not in first.seeds_of(entry) for entry in range(len(first.entries))])
    return Trained(tuple(runs), first.entries, calibrated, outcomes)


def _correct(runs: Any, column: int, task: str) -> np.ndarray:
    """(N, n) outcomes of one task's runs."""
    outcomes = task_outcomes(runs, column, task)
    if not outcomes.known.all():
        raise DataError("its metric has no outcome for each example, so variance cannot be taken apart.", where=task)
    return outcomes.correct.T.astype(float)


def averages(trained: Trained) -> pd.DataFrame:
    """Every entry's average and what it varies with, 0..1.

    Returns:
        ENTRY, the average over all seeds with its interval, one column per training seed ("seed 0"), and the standard
        deviations of one run's average from COMPONENTS ("sd_training", ...), 0 where an estimate is not above zero.
    """
    rows = [
        _figures(trained, list(one), bool(seeded)) for one, seeded in zip(trained.outcomes, trained.calibrated, strict=True)
    ]
    table = pd.DataFrame(rows).rename(columns={"mean": "average"}).drop(columns="p")
    return pd.concat([trained.entries, table], axis=1)


def differences(trained: Trained, reference: str) -> pd.DataFrame:
    """Paired differences of quantized entries to the reference quantizer and to their merge at full precision, 0..1.

    Args:
        trained: the outcomes.
        reference: display name of the quantizer to compare with.

    Returns:
        merge, quantizer, bits, group_size, `against` (as from `comparisons.compare`), `reference` (the other's quantizer),
        difference, ci_low, ci_high, p, p_holm (corrected over all with the same `against`), one column per training seed, the
        standard deviations of one run's difference, and `seeds_agree`: how many seeds have the sign of the difference.
    """
    tables = []
    for against, pairs in comparable(trained.entries, reference).items():
        rows = []
        for entry, other in pairs:
            paired = [one - two for one, two in zip(trained.outcomes[entry], trained.outcomes[other], strict=True)]
            rows.append(_figures(trained, paired, bool(trained.calibrated[[entry, other]].any())))
        numbers, others = np.array(pairs, int).reshape(-1, 2).T
        names = trained.entries.loc[numbers, ENTRY[1:]].reset_index(drop=True)
        names = names.assign(against=against, reference=trained.entries["quantizer"].to_numpy()[others])
        figures = pd.DataFrame(rows).rename(columns={"mean": "difference"})
        figures.insert(list(figures.columns).index("p") + 1, "p_holm", holm(figures["p"]))
        tables.append(pd.concat([names, figures], axis=1))
    table = pd.concat(tables, ignore_index=True)
    by_seed = np.sign(table[seed_columns(trained.seeds)]).to_numpy()
    return table.assign(seeds_agree=(by_seed == np.sign(table[["difference"]].to_numpy())).sum(axis=1))


def seed_columns(seeds: Sequence[int]) -> list[str]:
    """Names of the columns by training seed."""
    return [f"seed {seed}" for seed in seeds]


def _figures(trained: Trained, outcomes: Sequence[np.ndarray], calibrated: bool) -> dict[str, float]:
    """Mean, its interval and p-value, means by training seed, and components."""
    by_seed = average_of(outcomes).mean(axis=1)
    of_examples, of_seeds, freedom = errors_of_mean(outcomes)
    mean = by_seed.mean()
    (half,), (p,) = t_interval(*(np.array([one]) for one in (mean, of_examples, of_seeds, freedom)))
    variances = asdict(components(outcomes, calibrated))
    return {
        "mean": mean,
        "ci_low": mean - half,
        "ci_high": mean + half,
        "p": p,
        **dict(zip(seed_columns(trained.seeds), by_seed, strict=True)),
        **{f"sd_{name}": float(np.sqrt(np.maximum(variances[name], 0))) for name in COMPONENTS},
    }
