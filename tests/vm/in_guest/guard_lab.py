# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in a test host: one step with the guard or the readers, by the process's arguments; tells in JSON what came.

Each step is a process of its own, so that whatever holds from one to the next is held by the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from klpd.errors import GuardError, KernelError
from klpd.kernel import bpf, guard_selftest, modules
from klpd.kernel.bpf.handles import Link
from klpd.kernel.guard import (
    ANY_LIVEPATCH,
    DIRECTORY,
    HOOKS,
    NO_GENERATION,
    Guard,
    GuardEvent,
    GuardMode,
    GuardPermission,
    Permit,
)
from klpd.kernel.layouts import KernelLayouts
from klpd.kernel.memory import KernelMemory
from klpd.plain import to_plain

if TYPE_CHECKING:
    from collections.abc import Callable

MODULE_INIT_COMPRESSED_FILE = 4  # include/uapi/linux/module.h


def told(code: int) -> str:
    return errno.errorcode[code] if code else "ok"


def by_file(path: Path, flags: int = 0) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY)
    try:
        number = modules._FINIT_MODULE[os.uname().machine]
        return told(ctypes.get_errno() if libc.syscall(number, fd, b"", flags) else 0)
    finally:
        os.close(fd)


def by_compressed_file(path: Path) -> str:
    return by_file(path, MODULE_INIT_COMPRESSED_FILE)


def by_memfd(path: Path) -> str:
    try:
        modules.load_module(path.read_bytes(), path.name)
    except KernelError as error:
        return told(error.errno)
    return "ok"


def by_buffer(path: Path) -> str:
    return told(guard_selftest.load_from_buffer(path.read_bytes()))


WAYS: dict[str, Callable[[Path], str]] = {
    "file": by_file,
    "compressed-file": by_compressed_file,
    "memfd": by_memfd,
    "buffer": by_buffer,
}


def load(way: str, *paths: str) -> dict[str, str]:
    return {Path(path).name: WAYS[way](Path(path)) for path in paths}


def evade(path: str) -> dict[str, str]:
    """Make the evasions of a livepatch: name -> file."""
    from tests.livepatches.evasions import BROKEN, EVASIONS

    data = Path(path).read_bytes()
    made = {}
    for name, change in {**EVASIONS, **BROKEN}.items():
        made[name] = f"/root/{name}.ko"
        Path(made[name]).write_bytes(change(data))
    return made


def load_at_once(way: str, path: str, times: str) -> list[str]:
    """From so many processes at the same time."""
    ready, go = os.pipe()
    answers, answer = os.pipe()
    children = []
    for _child in range(int(times)):
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(ready, 1)
            os.write(answer, f"{WAYS[way](Path(path))} ".encode())
            os._exit(0)
        children.append(child)
    os.close(go)
    for child in children:
        os.waitpid(child, 0)
    return os.read(answers, 1 << 16).decode().split()


def load_until(way: str, path: str, stop: str) -> dict[str, int]:
    """Again and again, until there is a file `stop`: how often it ended in which way."""
    counted: dict[str, int] = {}
    Path(f"{stop}.started").touch()
    while not Path(stop).exists():
        answer = WAYS[way](Path(path))
        counted[answer] = counted.get(answer, 0) + 1
    return counted


def close(mode: str = "enforce", program: str = "") -> object:
    """Close the gate, with the guard of the object file `program` where one is given."""
    if program:
        bpf.object_path = lambda name: Path(program)
    try:
        return status_of(Guard.close_gate(GuardMode(mode)))
    except GuardError as error:
        return {"state": "unavailable", "reason": str(error)}


def take_over() -> object:
    """Close the gate again, and tell the events since somebody last read them."""
    return to_plain(Guard.close_gate().read_events())


def status_of(guard: Guard) -> object:
    return to_plain(guard.status())


def status() -> object:
    return status_of(Guard())


def test() -> object:
    guard = Guard()
    guard.test()
    return status_of(guard)


def remove() -> object:
    guard = Guard()
    guard.remove()
    return status_of(guard)


def lose_pins() -> object:
    """Have somebody else remove the pins of a guard that is held on to."""
    guard = Guard()
    shutil.rmtree(DIRECTORY)
    return status_of(guard)


def set_mode(mode: str) -> None:
    Guard().set_mode(GuardMode(mode))


def approve(path: str, seconds: str, generation: str = "") -> None:
    digest = hashlib.sha256(Path(path).read_bytes()).digest()
    Guard().approve(digest, seconds=float(seconds), generation=int(generation) if generation else None)


def permit_writes() -> None:
    """Let anybody write to the attributes of any livepatch."""
    Guard().permit({ANY_LIVEPATCH: GuardPermission(NO_GENERATION, Permit.ALWAYS, Permit.ALWAYS)})


def approve_many(count: str, seconds: str) -> int:
    """Approve so many digests: how many the guard had room for."""
    guard = Guard()
    for number in range(int(count)):
        try:
            guard.approve(hashlib.sha256(str(number).encode()).digest(), seconds=float(seconds))
        except KernelError as error:
            if error.errno != errno.E2BIG:
                raise
            return number
    return int(count)


def withdraw(path: str) -> bool:
    return Guard().withdraw(hashlib.sha256(Path(path).read_bytes()).digest())


def events() -> object:
    return to_plain(Guard().read_events())


def counters() -> object:
    return to_plain(Guard().counters())


def digests(*sizes: str) -> dict[str, str]:
    """The digests that the guard tells of bytes that it must take for a livepatch, and hashlib's: those that differ."""
    guard = Guard()
    wrong = {}
    for size in map(int, sizes):
        data = b"\x7fELF" + os.urandom(size - 4)
        guard_selftest.load_from_file(data)
        (event,) = guard.read_events()
        expected = hashlib.sha256(data).hexdigest()
        if not isinstance(event, GuardEvent) or (event.digest, event.size) != (expected, size):
            wrong[str(size)] = str(event)
    return wrong


def patches() -> object:
    with KernelMemory() as memory:
        return to_plain(memory.read_patches())


def layout() -> object:
    return to_plain(KernelLayouts()(os.uname().release, "EM_X86_64"))


def tasks() -> object:
    with KernelMemory() as memory:
        return to_plain(memory.read_tasks())


def costs(path: str, *, times: int = 20) -> dict[str, object]:
    """What the guard takes for a module: the median of some loads, in nanoseconds.  For people; no test asserts it."""
    Path("/proc/sys/kernel/bpf_stats_enabled").write_text("1")
    taken = []
    for _load in range(times):
        before = _run_time()
        by_file(Path(path))
        taken.append(_run_time() - before)
        if Path("/sys/module", Path(path).stem).exists():
            modules.remove_module(Path(path).stem)
    return {"size": Path(path).stat().st_size, "median": sorted(taken)[times // 2], "most": max(taken)}


def verifier() -> dict[str, int]:
    """How many instructions the verifier went through for each program."""
    found = {}
    for hook in HOOKS:
        with Link.pinned(DIRECTORY / "guard" / hook.program) as link, link.program() as program:
            found[hook.program] = program.statistics().verified_instructions
    return found


def _run_time() -> int:
    with Link.pinned(DIRECTORY / "guard" / "load_file") as link, link.program() as program:
        return program.statistics().run_time_ns


STEPS: dict[str, Callable[..., object]] = {
    each.__name__: each
    for each in (
        load, evade, load_at_once, load_until, close, take_over, status, test, remove, lose_pins, set_mode, approve,
        approve_many, permit_writes, withdraw, events, counters, digests, patches, layout, tasks, costs, verifier,
    )
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(STEPS[sys.argv[1]](*sys.argv[2:])))
