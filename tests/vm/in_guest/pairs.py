# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in a test host: livepatches, each loaded onto the same stack, by the bare kernel or by klpd.

The arguments: "bare" or "klpd", the stack (the oldest first, with blanks between), and the livepatches to load onto it.
All files are in /root.  Tells in JSON, for each of them, how it ended.
"""

from __future__ import annotations

import errno
import json
import sys
import time
from pathlib import Path
from typing import Protocol

from klpd.ctl.client import BusService
from klpd.ctl.requests import Apply, Disable
from klpd.errors import KernelError
from klpd.kernel import modules, sysfs
from klpd.report import JobReport

FOLDER = Path("/root")
STEP = 0.05


class Loader(Protocol):
    """Brings livepatches in and takes them out."""

    def load(self, name: str) -> str: ...

    def take_out(self, name: str) -> None: ...


class Bare:
    """The kernel alone, as insmod and echo have it."""

    def load(self, name: str) -> str:
        """How it ended: "ok", or the name of the error."""
        try:
            modules.load_module((FOLDER / f"{name}.ko").read_bytes(), name)
        except KernelError as error:
            return errno.errorcode[error.errno]
        settle()
        return "ok"

    def take_out(self, name: str) -> None:
        sysfs.write_enabled(name, enabled=False)
        settle()


class Klpd:
    """klpd: the verdict on the load, and the end of the job."""

    def __init__(self) -> None:
        self._service = BusService()

    def load(self, name: str) -> str:
        file = str(FOLDER / f"{name}.ko")
        verdict = self._service.check(file).decision
        return f"{verdict} {self._end(self._service.start(Apply((file,))))}"

    def take_out(self, name: str) -> None:
        assert self._end(self._service.start(Disable(name))) == "done"

    def _end(self, job: str) -> str:
        return next(
            event.state.value
            for event in self._service.follow(job)
            if isinstance(event, JobReport) and event.state.final and event.id == int(job.rpartition("/")[2])
        )


def settle() -> None:
    while any(each.transition for each in sysfs.read_livepatches()):
        time.sleep(STEP)


def clean() -> None:
    """Remove the modules of livepatches that are no longer in force."""
    installed = {each.name for each in sysfs.read_livepatches()}
    while left := [each for each in sysfs.read_modules() if each.is_livepatch and each.name not in installed]:
        for each in left:
            try:
                modules.remove_module(each.name)
            except KernelError as error:
                if error.errno != errno.EAGAIN:  # the kernel lets go of it in a moment
                    raise
                time.sleep(STEP)


def put_on(loader: Loader, stack: list[str]) -> None:
    """Make `stack` the stack."""
    present = installed()
    if set(stack) <= set(present):
        surplus, missing = [each for each in present if each not in stack], []
    else:
        surplus, missing = present, stack
    for name in sorted(surplus, key=lambda each: stack.index(each) if each in stack else len(stack), reverse=True):
        loader.take_out(name)
    clean()
    for name in missing:
        loader.load(name)


def installed() -> list[str]:
    return [each.name for each in sysfs.read_livepatches()]


def outcomes(loader: Loader, stack: list[str], names: list[str]) -> dict[str, str]:
    found = {}
    for name in names:
        if name not in stack:
            put_on(loader, stack)
            found[name] = f"{loader.load(name)}: {' '.join(sorted(installed()))}"
            clean()
    return found


if __name__ == "__main__":
    how = Bare() if sys.argv[1] == "bare" else Klpd()
    print(json.dumps(outcomes(how, sys.argv[2].split(), sys.argv[3:])))
