# SPDX-License-Identifier: GPL-2.0-or-later
"""There is one klpd."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from klpd.daemon.single import is_only_one

if TYPE_CHECKING:
    from pathlib import Path

SECOND = (
    "import sys; from pathlib import Path; from klpd.daemon.single import is_only_one; "
    "print(is_only_one(Path(sys.argv[1])))"
)


def second(path: Path) -> str:
    run = subprocess.run([sys.executable, "-c", SECOND, path], check=True, capture_output=True, text=True, timeout=60)
    return run.stdout


def test_a_second_one_is_not_the_only_one_and_the_next_is_when_the_first_has_ended(tmp_path: Path) -> None:
    first = "import time; from pathlib import Path; from klpd.daemon.single import is_only_one; "
    first += f"print(is_only_one(Path({str(tmp_path / 'lock')!r})), flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", first], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "True\n"
        assert second(tmp_path / "lock") == "False\n"
        running.kill()
    assert second(tmp_path / "lock") == "True\n"


def test_where_that_cannot_be_found_out_it_is_taken_for_the_only_one(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("no directory")
    assert is_only_one(tmp_path / "run" / "lock")
