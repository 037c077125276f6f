# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in a test host: opens files, times that, and tells in JSON how it went."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_NOBODY = 65534
_F_SETLEASE = 1024
_PR_SET_DUMPABLE = 4


def flood(processes: str, threads: str, stop: str, *paths: str) -> dict[str, Any]:
    """Open and close files as nobody, in so many processes with so many threads each, until there is `stop`.

    How many opens there were, the longest of them in seconds, and the errors.
    """
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)  # so that /proc/PID/* look like root's
    with ProcessPoolExecutor(int(processes), get_context("fork")) as pool:
        asked = [pool.submit(_open_all, int(threads), stop, paths) for _process in range(int(processes))]
        ready = Path(f"{stop}.ready.0")
        while len(list(ready.parent.glob(f"{ready.stem}.*"))) < int(processes):
            time.sleep(0.1)
        Path(f"{stop}.begun").touch()
        told = [each.result() for each in asked]
    return {
        "opens": sum(opens for opens, _longest, _errors in told),
        "longest": max(longest for _opens, longest, _errors in told),
        "errors": sorted({error for _opens, _longest, errors in told for error in errors}),
    }


def _open_all(threads: int, stop: str, paths: tuple[str, ...]) -> tuple[int, float, set[str]]:
    counts: list[int] = []
    longest: list[float] = []
    errors: set[str] = set()

    go = threading.Event()

    def run(number: int) -> None:
        opens, most = 0, 0.0
        go.wait()
        while not os.path.exists(stop):
            path = paths[(number + opens) % len(paths)]
            began = time.monotonic()
            try:
                os.close(os.open(path, os.O_RDONLY))
            except OSError as error:
                errors.add(str(error))
            most = max(most, time.monotonic() - began)
            opens += 1
        counts.append(opens)
        longest.append(most)

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for each in running:
        each.start()
    # To begin so many is work enough for a small machine.
    Path(f"{stop}.ready.{os.getpid()}").touch()
    while not os.path.exists(f"{stop}.begun"):
        time.sleep(0.1)
    go.set()
    for each in running:
        each.join()
    return sum(counts), max(longest), errors


def timed(*paths: str) -> list[float]:
    """How long each open takes, in seconds."""
    times = []
    for path in paths:
        began = time.monotonic()
        os.close(os.open(path, os.O_RDONLY))
        times.append(time.monotonic() - began)
    return times


def lease(path: str, ready: str, asked: str, give_back: str) -> str:
    """Hold a write lease on a file: make the file `ready`, and `asked` when somebody wants it; give it back when there
    is a file `give_back`.
    """
    signal.signal(signal.SIGIO, lambda _number, _frame: Path(asked).touch())
    fd = os.open(path, os.O_RDWR)
    while True:
        try:
            fcntl.fcntl(fd, _F_SETLEASE, fcntl.F_WRLCK)
            break
        except BlockingIOError:  # klpd has the file open for a moment longer
            time.sleep(0.01)
    Path(ready).touch()
    while not Path(give_back).exists():
        time.sleep(0.05)
    fcntl.fcntl(fd, _F_SETLEASE, fcntl.F_UNLCK)
    return "given back"


if __name__ == "__main__":
    step, *arguments = sys.argv[1:]
    steps: dict[str, Callable[..., Any]] = {"flood": flood, "timed": timed, "lease": lease}
    print(json.dumps(steps[step](*arguments)))
