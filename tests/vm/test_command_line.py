# SPDX-License-Identifier: GPL-2.0-or-later
"""`python3 -m tests.vm run`, as the demo and people use it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vm.boot import unsupported

PROJECT = Path(__file__).resolve().parents[2]
RUN = [sys.executable, "-m", "tests.vm", "run", "--no-klpd"]

pytestmark = [pytest.mark.vm, pytest.mark.skipif(unsupported() is not None, reason=str(unsupported()))]


def run(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *map(str, arguments)], check=False, cwd=PROJECT, input=stdin, capture_output=True, text=True
    )


def test_forwards_status_input_and_both_outputs() -> None:
    done = run("--", "sh", "-c", "cat; echo err >&2; pwd; exit 7", stdin="in\n")
    assert (done.returncode, done.stdout) == (7, "in\n/root\n")
    assert done.stderr.endswith("err\n")


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--", "sh", "-c", "kill -KILL $$"], 137, ""),
        (["--timeout", "1", "--", "sleep", "1000"], 124, "more than 1 s"),
        (["--", "nothing-like-that"], 125, "could not start nothing-like-that"),
        (["--", "sh", "-c", "echo c > /proc/sysrq-trigger"], 125, "sysrq triggered crash"),
        (["--copy", "/nothing/like/that", "--", "true"], 125, "/nothing/like/that"),
        ([], 125, "run what?"),
    ],
)
def test_tells_the_commands_failures_from_its_own(arguments: list[str], status: int, told: str) -> None:
    done = run(*arguments)
    assert done.returncode == status
    assert told in done.stderr


def test_copies_files_and_folders_into_roots_home(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_text("inner\n")
    (tmp_path / "file").write_text("file\n")
    done = run("--copy", tmp_path / "folder", "--copy", tmp_path / "file", "--", "cat", "file", "folder/inner")
    assert done.stdout == "file\ninner\n"


def test_gives_a_terminal_where_asked() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*RUN, "--tty", "--", "sh", "-c", "tty; read word; echo got $word; exit 3"],
        cwd=PROJECT,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(theirs)
        seen = b""
        while b"/dev/pts/" not in seen:
            seen += os.read(ours, 1024)
        os.write(ours, b"this\r")
        while b"got this" not in seen:
            seen += os.read(ours, 1024)
        process.communicate()
        os.close(ours)
    assert process.returncode == 3
