# SPDX-License-Identifier: GPL-2.0-or-later
"""A short run of each target, and what counts as a finding."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.fuzz.targets import MOST_SECONDS, TARGETS, timed

SECONDS = 12
START = 300  # seconds, for imports, the test livepatches and the first inputs, where others keep the machine busy


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_in_a_short_run(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, f"--seconds={SECONDS}"],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS + START,
    )

    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    assert "DONE" in said


def test_an_error_that_is_not_documented_is_a_finding() -> None:
    def broken(data: bytes) -> None:
        raise IndexError(data)

    with pytest.raises(IndexError):
        timed(broken)(b"")


def test_what_takes_over_a_second_is_a_finding() -> None:
    def slow(_: bytes) -> None:
        end = time.process_time() + MOST_SECONDS
        while time.process_time() <= end:
            pass

    with pytest.raises(AssertionError, match=r"3 bytes took 1\.\d s"):
        timed(slow)(b"abc")
