# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in a test host: loaders that do what insmod does not, by the process's arguments; tells in JSON how it ended."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from klpd.kernel import modules

if TYPE_CHECKING:
    from collections.abc import Callable


def finit_module(fd: int) -> str:
    """finit_module(2): "ok", or the name of the error."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = modules._FINIT_MODULE[os.uname().machine]
    return "ok" if libc.syscall(number, fd, b"", 0) == 0 else errno.errorcode[ctypes.get_errno()]


def swap(path: str, other: str) -> str:
    """Open a file, write another's bytes over its own, and load it."""
    data = Path(other).read_bytes()
    fd = os.open(path, os.O_RDONLY)
    Path(path).write_bytes(data)
    return finit_module(fd)


def at_once(path: str, times: str) -> dict[str, int]:
    """Open and load a file from so many processes at the same time: how often it ended in which way."""
    ready, go = os.pipe()
    answers, answer = os.pipe()
    for _loader in range(int(times)):
        if os.fork() == 0:
            os.close(go)
            os.read(ready, 1)
            os.write(answer, f"{finit_module(os.open(path, os.O_RDONLY))} ".encode())
            os._exit(0)
    os.close(go)
    for _loader in range(int(times)):
        os.wait()
    return Counter(os.read(answers, 1 << 16).decode().split())


def come_and_go(path: str, times: str) -> dict[str, int]:
    """Load and remove a module so many times: how often loading it ended in which way."""
    ended: Counter[str] = Counter()
    for _load in range(int(times)):
        with Path(path).open("rb") as file:
            ended[finit_module(file.fileno())] += 1
        modules.remove_module(Path(path).stem)
    return ended


STEPS: dict[str, Callable[..., object]] = {"swap": swap, "at-once": at_once, "come-and-go": come_and_go}

if __name__ == "__main__":
    print(json.dumps(STEPS[sys.argv[1]](*sys.argv[2:])))
