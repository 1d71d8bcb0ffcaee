"""Times of files that a clock made wrong: nothing is skipped, nothing is made again for ever."""

import os
import subprocess
import time

import pytest

from tests.faults.suite import CONFIG, TARGETS, same

BY_TIME = ("--max-checksum-file-size", "0")  # as files of more than a megabyte are looked at
WAY_OUT = "find -L results -newermt now -exec touch {} +"


@pytest.mark.faults
def test_a_file_from_the_future(finished, reference, record_property):
    """What is made from it cannot be newer: refused, until somebody gives it a time that has been."""
    future = time.time() + 30 * 86400
    board = "results/suites/small/leaderboard.csv"
    os.utime(finished.work / board, (future, future))
    refused = finished.snakemake(*CONFIG, *BY_TIME, "--keep-going", "--", *TARGETS, code=1)
    assert f"{board} has a time that is still to come" in refused
    assert WAY_OUT in refused
    subprocess.run(WAY_OUT, shell=True, cwd=finished.work, check=True)
    finished.snakemake(*CONFIG, *BY_TIME, "--", *TARGETS)
    assert "Nothing to be done" in finished.snakemake(*CONFIG, *BY_TIME, "--", *TARGETS)
    same(finished, reference)
    record_property("outcome", "refused by name until touched; equal")
