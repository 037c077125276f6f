# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in a test host: loaders that do what insmod does not, by the process's arguments; tells in JSON how it ended."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from klpd.kernel import modules

if TYPE_CHECKING:
    from collections.abc import Callable


_INIT_MODULE = {"x86_64": 175, "aarch64": 105}


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


def load_when(path: str, opened: str, go: str) -> str:
    """Open a file, make the file `opened`, and load what was opened once there is a file `go`."""
    fd = os.open(path, os.O_RDONLY)
    Path(opened).touch()
    while not Path(go).exists():
        time.sleep(0.05)
    return finit_module(fd)


def on_a_thread(path: str) -> str:
    """Load a file on another thread than the process's first, which waits meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: finit_module(os.open(path, os.O_RDONLY))).result()


def unseen(way: str, path: str) -> str:
    """Load a file's bytes by a way that shows its file to nobody: "memfd" or "buffer" (init_module)."""
    data = Path(path).read_bytes()
    if way == "memfd":
        fd = os.memfd_create("unseen")
        os.write(fd, data)
        return finit_module(fd)
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.syscall(_INIT_MODULE[os.uname().machine], data, ctypes.c_ulong(len(data)), b"")
    return "ok" if done == 0 else errno.errorcode[ctypes.get_errno()]


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


STEPS: dict[str, Callable[..., object]] = {
    "swap": swap,
    "load-when": load_when,
    "on-a-thread": on_a_thread,
    "unseen": unseen,
    "at-once": at_once,
    "come-and-go": come_and_go,
}

if __name__ == "__main__":
    print(json.dumps(STEPS[sys.argv[1]](*sys.argv[2:])))
