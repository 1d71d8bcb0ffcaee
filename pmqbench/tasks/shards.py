"""Which of a data set's files hold a split: as its card says, or as the `datasets` library calls them."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

from pmqbench.cards import card_head
from pmqbench.errors import DataError, did_you_mean, listed

log = logging.getLogger(__name__)

SUFFIXES = (".parquet", ".arrow")
CACHE = re.compile(r"(.*/)?cache-[^/]*\.arrow")
NUMBERED = re.compile(r"(.*)-(\d+)-of-(\d+)(-\w+)?\.(parquet|arrow)")


def shards(names: Collection[str], split: str, where: str, config: str | None = None, card: str = "") -> list[str]:
    """Those of a data set's files that hold a split, in order; none if nothing is called like it.

    Args:
        names: paths of all files.
        split: the split as the data set calls it.
        where: what messages call the split.
        config: the configuration, where a data set has several.
        card: README.md; its `configs` say which files belong to a split. Without them the names do, as the `datasets` library
            writes them: train-00000-of-00002.parquet, train/0000.parquet, below a folder called like the configuration.

    Raises:
        DataError: several configurations or folders have the split and none is chosen, one that does not exist is chosen, the
            split is there in two formats, or a numbered shard is missing.
    """
    tables = sorted(name for name in names if name.endswith(SUFFIXES))
    entries = configurations(card)
    config = _chosen(entries, tables, config, where)
    entry = entries.get(config, {})
    if entry.get("data_files"):
        patterns = _patterns(entry["data_files"], split)
        found = [name for name in tables if any(fnmatch(name, pattern) for pattern in patterns)]
    else:
        found = _called(tables, split, config)
    kept = [name for name in found if not CACHE.fullmatch(name)]
    if len(kept) < len(found):
        caches = [name for name in found if name not in kept]
        message = (
            "%s: %d cache files of the `datasets` library are left out (%s); nothing is to be done if you made none of them."
        )
        log.warning(message, where, len(caches), listed(caches))
    if not entry.get("data_files"):
        _check_one_place(kept, split, where)
    _check_complete(kept, where)
    return kept


def configurations(card: str) -> dict[str | None, Mapping[str, Any]]:
    """Configuration -> its entry in the head of a data set's card: under `configs`, else under `dataset_info`."""
    head = card_head(card)
    entries = _mappings(head.get("configs")) or _mappings(head.get("dataset_info"))
    named = ((entry.get("config_name", "default"), entry) for entry in entries)
    return {name: entry for name, entry in named if name is None or isinstance(name, str)}


def stated_classes(card: str, config: str | None, label: str) -> list[str] | None:
    """Names of a label's classes that the `dataset_info` of a card states for the configuration in use, or None."""
    config = config or _chosen(configurations(card), (), None, "")
    for entry in _mappings(card_head(card).get("dataset_info")):
        if entry.get("config_name", config) == config:
            for feature in _mappings(entry.get("features")):
                if feature.get("name") == label:
                    return _class_label(feature.get("dtype"))
    return None


def _class_label(dtype: Any) -> list[str] | None:
    """Names in a feature's type {class_label: {names: {'0': ..., '1': ...}}}; None for another type."""
    kind = dtype.get("class_label") if isinstance(dtype, dict) else None
    names = kind.get("names") if isinstance(kind, dict) else None
    if not isinstance(names, dict) or not all(str(key).isdecimal() for key in names):
        return None
    return [str(names[key]) for key in sorted(names, key=int)] or None


def _mappings(value: Any) -> list[dict[str, Any]]:
    """The mappings in a list, or the one that stands alone: a card may state one configuration without a list."""
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]


def _chosen(entries: Mapping[Any, Mapping[str, Any]], tables: Sequence[str], config: str | None, where: str) -> str | None:
    """The configuration in use: the one asked for, the only one, or the card's default one; None where there are none."""
    if config is not None:
        known = {*entries, *(name.split("/")[0] for name in tables if "/" in name)}
        if config not in known:
            what = f'the data set has no configuration "{config}".'
            raise DataError(what, where=where, remedy=did_you_mean(config, known))
        return config
    defaults = [name for name, entry in entries.items() if entry.get("default") is True or len(entries) == 1]
    if defaults or not entries:
        return defaults[0] if defaults else None
    if "default" in entries:
        return "default"
    what = f"the data set has {len(entries)} configurations and none is chosen: {', '.join(map(str, entries))}."
    raise DataError(what, where=where, remedy="Set `config` of the task's source to one of them.")


def _patterns(files: Any, split: str) -> list[str]:
    """Patterns of a split's files in a card's `data_files`; files without a split are the training split's."""
    items = files if isinstance(files, list) else [files]
    stated = [item if isinstance(item, dict) else {"path": item} for item in items]
    paths = [item.get("path") for item in stated if item.get("split", "train") == split]
    return [path for item in paths for path in (item if isinstance(item, list) else [item]) if isinstance(path, str)]


def _called(tables: Sequence[str], split: str, config: str | None) -> list[str]:
    """Tables whose names say that they hold the split, below the configuration's folder if there is one."""
    folder = f"{config}/" if any(name.startswith(f"{config}/") for name in tables) else ""
    shape = _shape(split)
    return [name for name in tables if name.startswith(folder) and shape.fullmatch(name)]


def _shape(split: str) -> re.Pattern[str]:
    return re.compile(rf"(?P<folder>.*/)?{re.escape(split)}(?P<form>-\d+-of-\d+(-\w+)?\.|\.|/[^/]+\.)(?P<suffix>parquet|arrow)")


def _check_one_place(found: Sequence[str], split: str, where: str) -> None:
    """Raises DataError for a split that is in several folders, or twice in one: as parquet and arrow, whole and in shards."""
    copies = defaultdict(list)
    for name in found:
        match = _shape(split).fullmatch(name)
        form = "numbered" if match["form"].startswith("-") else match["form"][0]
        copies[match["folder"] or "", form, match["suffix"]].append(name)
    if len(copies) < 2:
        return
    folders = sorted({folder for folder, *_ in copies})
    examples = ", ".join(names[0] for names in copies.values())
    if len(folders) > 1:
        what = f'{len(folders)} folders hold split "{split}": {", ".join(folder or "./" for folder in folders)}.'
        remedy = "Set `config` of the task's source (hub) or `path` (local) to one of them, so that no row counts twice."
    else:
        what = f'split "{split}" is there {len(copies)} times: {examples}.'
        remedy = "Keep one of them, so that no row counts twice."
    raise DataError(what, where=where, remedy=remedy)


def _check_complete(found: Sequence[str], where: str) -> None:
    """Raises DataError if a shard "<n>-of-<total>" is missing or there twice."""
    numbers = defaultdict(list)
    for name in found:
        if match := NUMBERED.fullmatch(name):
            numbers[match[1], int(match[3])].append(int(match[2]))
    for (stem, total), present in numbers.items():
        missing = sorted(set(range(total)) - set(present))
        if missing:
            what = f"{len(missing)} of the {total} shards of {stem} are missing: number {listed(missing)}."
            raise DataError(what, where=where, remedy="Fetch the data set whole.")
        if len(present) != total:
            what = f"shards of {stem} are there {len(present)} times instead of {total}."
            raise DataError(what, where=where, remedy="Remove those of an older version.")
