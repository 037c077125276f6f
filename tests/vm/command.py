# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs programs of this machine, with errors that tell what they said."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

from tests.vm.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Debian's root has these on its PATH, an ordinary user has not.
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def run(
    argv: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None, hint: str = ""
) -> str:
    """Run ``argv`` to its end and give its standard output; raises HarnessError with what it said, and ``hint``."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            check=False,
            cwd=cwd,
            env=environment(env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError as error:
        raise HarnessError(f"there is no {words[0]} on this machine") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-4000:]
        raise HarnessError("\n".join(filter(None, [f"`{shlex.join(words)}` failed ({done.returncode}):", said, hint])))
    return done.stdout


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment in the C locale and with the system's program folders, and ``more``."""
    return {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '/usr/bin:/bin')}:{_SBIN}", **more}
