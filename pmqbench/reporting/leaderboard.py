"""The joint leaderboard: the reports of all suites, and the results that others sent in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pmqbench.errors import DataError, PMQError
from pmqbench.files import write_text
from pmqbench.reporting.collect import read_table
from pmqbench.reporting.columns import COLUMNS
from pmqbench.reporting.comparisons import compare_all, compare_ranked
from pmqbench.reporting.page.index import row_keys
from pmqbench.reporting.statistics import summarise
from pmqbench.reporting.tables import HOW, leaderboard, markdown_table, readable, warnings_markdown, write_csv
from pmqbench.reporting.verdicts import REFERENCE, read_pairs
from pmqbench.submissions.admission import Admission, admit, local_rows, read_entries
from pmqbench.submissions.schema import Entry

HERE, CONFIRMED, SUBMITTED, NOT_REGENERATED = "here", "confirmed", "submitted", "not regenerated"
HOW_ORIGIN = f"""\
*origin* says where a row is from. {HERE}: computed in this checkout's `results/`; {CONFIRMED}: so too, and a result that was
sent in for the same model says the same; {SUBMITTED}: sent in, and its code is part of this project; {NOT_REGENERATED}: sent in
without its code, so that nobody here can compute it again. All rows of a suite were scored on the same test examples, and are
compared by them."""


@dataclass(frozen=True)
class Joint:
    """All suites below each other.

    Attributes:
        table: "suite", COLUMNS with "origin" after the names, and "submitted_by", "link" and "entry" (the file); all text.
            Ranks count within a suite. Task columns, which differ, are left out.
        refused: file of an entry -> why it has no row.
    """

    table: pd.DataFrame
    refused: Mapping[str, str]

    @property
    def warnings(self) -> list[dict[str, str]]:
        """The refused entries, as reports show warnings."""
        return [{"where": file, "message": f"refused: {why}"} for file, why in self.refused.items()]


def join_suites(reports: Mapping[str, Path], entries: Iterable[str | Path], data: Path) -> Joint:
    """Suites' leaderboards below each other, with entries in those of the default targets.

    Args:
        reports: name of a report -> its folder.
        entries: files of submitted results.
        data: folder of the tasks' data, which entries must have been scored on.

    Raises:
        DataError: there is nothing to show, or a report's table has other columns.
    """
    sent, refused = read_entries(entries)
    of_suite: dict[str, dict[str, Entry]] = {}
    for file, entry in sent.items():
        of_suite.setdefault(entry.suite, {})[file] = entry
    tables = []
    for suite in [*reports, *sorted(of_suite.keys() - reports.keys())]:
        folder = reports.get(suite)
        table, admission = join_entries(folder, of_suite.get(suite, {}), data)
        refused |= admission.refused
        if table is not None:
            tables.append(with_origin(suite, table, admission, sent, HERE if folder else SUBMITTED))
    if not tables:
        raise DataError("no suite has a leaderboard yet.", remedy="Run one first: make")
    return Joint(pd.concat(tables, ignore_index=True), refused)


def read_leaderboard(path: Path) -> pd.DataFrame:
    """One report's leaderboard; all text."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(table.columns[: len(COLUMNS)]) != COLUMNS:
        raise DataError(f"its columns are not {', '.join(COLUMNS)}.", where=str(path), remedy="Delete it and run again.")
    return table


def join_entries(folder: Path | None, entries: Mapping[str, Entry], data: Path) -> tuple[pd.DataFrame | None, Admission]:
    """A suite's leaderboard with its entries, which are compared with all rows; None if there is no row at all.

    Args:
        folder: of the suite's report; None if nothing of it was computed here.
        entries: of the suite by file.
        data: folder of the tasks' data.
    """
    if folder is None:
        admission = admit(entries, None)
        return (made_of(admission), admission) if admission.rows else (None, admission)
    table = read_leaderboard(folder / "leaderboard.csv")
    if not entries:
        return table, Admission(None)
    try:
        local = local_rows(read_table(folder / "records.parquet"), list(table.columns[len(COLUMNS) :]), data)
    except PMQError as error:
        return table, Admission(None, refused=dict.fromkeys(entries, f"cannot be compared with {folder}: {error}"))
    admission = admit(entries, local)
    references = [pair["reference"] for pair in read_pairs(folder / "comparisons.csv") if pair["against"] == REFERENCE]
    reference = references[0] if references else None
    return (made_of(admission, reference) if admission.admitted else table), admission


def made_of(admission: Admission, reference: str | None = None) -> pd.DataFrame:
    """The leaderboard of a suite's rows; without a reference quantizer nothing is compared with one."""
    summary = summarise(admission.rows.records, list(admission.rows.tasks))
    pairs = compare_all(summary, reference) if reference else compare_ranked(summary)
    return leaderboard(summary, pairs)


def with_origin(suite: str, table: pd.DataFrame, admission: Admission, sent: Mapping[str, Entry], others: str) -> pd.DataFrame:
    """A suite's leaderboard with the columns of a joint one.

    Args:
        suite: its name.
        table: its leaderboard.
        admission: of its entries.
        sent: entries by file.
        others: where rows are from that no entry speaks of.
    """
    table = table[list(COLUMNS)].astype(str)
    files = [(admission.admitted | admission.confirmed).get(key, "") for key in row_keys(table)]
    origins = [origin(sent[file], file in admission.confirmed.values()) if file else others for file in files]
    who = [sent[file].submitted if file else None for file in files]
    table.insert(0, "suite", suite)
    table.insert(list(table.columns).index("group_size") + 1, "origin", origins)
    by = [one.by if one else "" for one in who]
    return table.assign(submitted_by=by, link=[str(one.link or "") if one else "" for one in who], entry=files)


def origin(entry: Entry, confirms: bool) -> str:
    """Where a row is from that an entry speaks of: one computed here that it confirms, or its own."""
    if confirms:
        return CONFIRMED
    return SUBMITTED if entry.code_included else NOT_REGENERATED


def write_leaderboards(joint: Joint, csv: str | Path, markdown: str | Path) -> None:
    """Writes the joint table as CSV and as markdown."""
    write_csv(csv, joint.table)
    parts = ["# All suites", warnings_markdown(joint.warnings), markdown_table(readable(joint.table)), HOW, HOW_ORIGIN]
    write_text(markdown, "\n\n".join(part for part in parts if part) + "\n")
