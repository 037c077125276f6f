# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc tells of a task that keeps a transition from ending (proc(5)).

Tasks come and go, and not everything is shown to everybody: what cannot be read is empty.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")
# fs/proc/base.c, proc_pid_stack: "[<0>] klp_test_wait+0x5a/0xb0 [klp_test_target]"
_FRAME: Final = re.compile(r"\[<[^>]*>\] (?P<function>[^+\s]+)\+\S+(?: \[(?P<module>[^\]]+)\])?")


@dataclass(frozen=True, slots=True)
class Frame:
    """A function on a task's kernel stack; `module` is empty for one of the kernel itself."""

    function: str
    module: str = ""

    def __str__(self) -> str:
        return f"{self.function} [{self.module}]" if self.module else self.function


@dataclass(frozen=True, slots=True)
class TaskState:
    """How a task is: `run_state` is its letter in /proc/PID/stat, `stack` its kernel stack, the innermost call first.

    `wchan` is the function that it sleeps in; the stack of a task that runs, or is in user space, is empty.
    """

    run_state: str = ""
    wchan: str = ""
    stack: tuple[Frame, ...] = ()


def read_task(tid: int, root: Path = ROOT) -> TaskState:
    """The state of the thread `tid`; an empty one where it has ended."""
    folder = root / "proc" / str(tid)
    # The name before the state may hold anything, ")" included.
    state = _read(folder / "stat").rpartition(")")[2].split()
    wchan = _read(folder / "wchan").strip()
    return TaskState(
        run_state=state[0] if state else "",
        wchan="" if wchan == "0" else wchan,
        stack=tuple(parse_stack(_read(folder / "stack"))),
    )


def parse_stack(text: str) -> list[Frame]:
    """The frames of a /proc/PID/stack."""
    found = (_FRAME.match(line) for line in text.splitlines())
    return [Frame(each["function"], each["module"] or "") for each in found if each is not None]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
