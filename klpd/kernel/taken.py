# SPDX-License-Identifier: GPL-2.0-or-later
"""The functions whose calls somebody leads elsewhere, as tracefs tells, and which of them have a kprobe.

What may be read is what root may; a kernel that is locked down to confidentiality shows nobody.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from klpd.kernel.sysfs import ROOT
from klpd.model import VMLINUX, Taken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TRACEFS: Final = ("sys/kernel/tracing", "sys/kernel/debug/tracing")
_KPROBES: Final = "sys/kernel/debug/kprobes/list"
MOST_READ: Final = 512 << 10
"""Characters of the list of functions.  While somebody traces all there are, the kernel takes long to write it."""

# t_show in kernel/trace/ftrace.c: "FUNCTION [MODULE] (COUNT) FLAGS\ttramp: ADDRESS (HANDLER) ->..."
_FUNCTION: Final = re.compile(r"(\S+)(?: \[(\S+)\])? \(\d+\)([A-Z ]*)(.*)", re.ASCII)
_HANDLER: Final = re.compile(r"->([\w.]+)", re.ASCII)
_IPMODIFY: Final = "I"
_KLP_HANDLER: Final = "klp_ftrace_handler"
# report_probe in kernel/kprobes.c: "ADDRESS  k  FUNCTION+OFFSET  MODULE [FLAG]..."
_KPROBE: Final = re.compile(r"\S+ +k +(\S+?)\+(0x[0-9a-f]+) +([^\s\[]\S*)?.*\[FTRACE\]", re.ASCII)


def read_taken(root: Path = ROOT) -> tuple[Taken, ...] | None:
    """The functions that somebody other than a livepatch has to himself, as far as their lines tell who that is; None
    where tracefs is not there, or not to be read, or where so many functions are traced that it would take too long.
    """
    lines = _enabled_functions(root)
    if lines is None:
        return None
    found = [each for each in (_FUNCTION.match(line) for line in lines) if each is not None and _IPMODIFY in each[3]]
    found = [each for each in found if _KLP_HANDLER not in each[4]]
    if not found:
        return ()
    kprobes = dict(_kprobes(root))
    return tuple(
        Taken(each[2] or VMLINUX, each[1], kprobes.get((each[2] or VMLINUX, each[1])) or _handler(each[4]))
        for each in found
    )


def _enabled_functions(root: Path) -> list[str] | None:
    for folder in _TRACEFS:
        try:
            with (root / folder / "enabled_functions").open(encoding="ascii", errors="backslashreplace") as file:
                lines = file.readlines(MOST_READ)
                return None if file.read(1) else lines
        except OSError:
            continue
    return None


def _kprobes(root: Path) -> Iterator[tuple[tuple[str, str], str]]:
    try:
        text = (root / _KPROBES).read_text(encoding="ascii", errors="backslashreplace")
    except OSError:
        return  # debugfs is not there: whose it is is all that is missing
    for line in text.splitlines():
        match = _KPROBE.match(line)
        if match is not None:
            yield (match[3] or VMLINUX, match[1]), f"a kprobe with a post_handler at {match[1]}+{match[2]}"


def _handler(rest: str) -> str:
    match = _HANDLER.search(rest)
    return "somebody whom the kernel does not name" if match is None else f"the ftrace handler {match[1]}"
