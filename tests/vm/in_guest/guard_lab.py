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
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from klpd.errors import GuardError, KernelError
from klpd.kernel import bpf, guard_selftest, modules
from klpd.kernel.bpf.handles import Link
from klpd.kernel.guard import (
    ANY_GENERATION,
    ANY_LIVEPATCH,
    DIRECTORY,
    HOOKS,
    NO_GENERATION,
    Attribute,
    Guard,
    GuardApproval,
    GuardEvent,
    GuardMode,
    GuardPermission,
    Permit,
    RefusedFileEvent,
)
from klpd.kernel.layouts import KernelLayouts
from klpd.kernel.memory import KernelMemory
from klpd.plain import to_plain

if TYPE_CHECKING:
    from collections.abc import Callable

ENOTSUPP = 524  # include/linux/errno.h
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


def let_ftrace_off(may: str) -> None:
    """What the policy says of kernel.ftrace_enabled: "allow" or "deny"."""
    guard = Guard()
    guard.set_mode(guard.mode, ftrace_off=may == "allow")


SWITCH = "/proc/sys/kernel/ftrace_enabled"


def switch(*values: str, file: str = SWITCH) -> list[str]:
    """Write each of these to kernel.ftrace_enabled, \\n being a newline: what becomes of it."""
    return [_written(Path(file), value.replace("\\n", "\n").encode()) for value in values]


def switch_elsewhere() -> dict[str, str]:
    """Switch ftrace off from where somebody might think that it is another's: what becomes of it."""
    bound = Path("/root/bound")
    bound.touch()
    second = Path("/root/proc")
    second.mkdir(exist_ok=True)
    container = Path("/sys/fs/cgroup/container")
    container.mkdir(exist_ok=True)
    write = ["sh", "-c", 'echo 0 | tee "$0"', SWITCH]
    _run("mount", "--bind", SWITCH, str(bound))
    _run("mount", "-t", "proc", "proc", str(second))
    opened = os.open(SWITCH, os.O_WRONLY)
    (container / "cgroup.procs").write_text("0")
    return {
        "another mount of procfs": _written(second / "sys/kernel/ftrace_enabled", b"0"),
        "a bind mount": _written(bound, b"0"),
        "a cgroup's": _written(Path(SWITCH), b"0"),
        "opened in another cgroup": _told_of(lambda: os.write(opened, b"0")),
        "sysctl": _run("sysctl", "--write", "kernel.ftrace_enabled=0"),
        "namespaces": _run(
            "unshare", "--cgroup", "--mount", "--pid", "--fork", "--mount-proc", "--uts", "--ipc", "--net", *write
        ),
    }


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "ok" if not done.returncode else "EPERM" if "not permitted" in done.stderr else done.stderr


def _written(path: Path, data: bytes) -> str:
    def write() -> None:
        with path.open("wb", buffering=0) as file:
            file.write(data)

    return _told_of(write)


def _told_of(act: Callable[[], object]) -> str:
    try:
        act()
    except OSError as error:
        return told(error.errno or 0)
    return "ok"


def detach() -> dict[str, str]:
    """Have the kernel detach each of the guard's links as any root process may (BPF_LINK_DETACH)."""
    libbpf = ctypes.CDLL("libbpf.so.1")
    answers = {}
    for hook in HOOKS:
        with Link.pinned(DIRECTORY / "guard" / hook.program) as link:
            code = -libbpf.bpf_link_detach(link.fd)
            answers[hook.program] = "EOPNOTSUPP" if code == ENOTSUPP else told(code)
    return answers


def detach_and_attach_again() -> list[object]:
    """The status when others have detached what can be, and when that is mended."""
    guard = Guard()
    detach()
    before = status_of(guard)
    mended = guard.attach_again()
    guard.pin_again()
    guard.test()
    return [before, mended, status_of(guard)]


def digest_of(path: str) -> bytes:
    return hashlib.sha256(Path(path).read_bytes()).digest()


def in_seconds(seconds: str) -> int:
    return time.monotonic_ns() + int(float(seconds) * 1e9)


def approve(path: str, seconds: str, generation: str = str(ANY_GENERATION)) -> None:
    """A standing approval: this process ends, and others load."""
    Guard().approve(digest_of(path), GuardApproval(in_seconds(seconds), int(generation), standing=True))


def approve_and_load(
    path: str, *, mine: bool = True, claimed: bool = True, epochs: int = 0, audited: bool = False
) -> str:
    """Approve as a klpd does, and load: `mine` for this process or for another, `epochs` later."""
    guard = Guard()
    if claimed:
        guard.claim()
    approval = GuardApproval(in_seconds("60"), guard.generation(), guard.epoch(), token=7, audited=audited)
    guard.approve(digest_of(path), approval, os.getpid() if mine else 1)
    for _epoch in range(epochs):
        guard.next_epoch()
    return by_memfd(Path(path))


def approve_others(path: str, case: str) -> str:
    """The cases of approve_and_load in which something is not as it should be."""
    return {
        "good": lambda: approve_and_load(path),
        "audited": lambda: approve_and_load(path, audited=True),
        "for another process": lambda: approve_and_load(path, mine=False),
        "nobody claims": lambda: approve_and_load(path, claimed=False),
        "another epoch": lambda: approve_and_load(path, epochs=1),
    }[case]()


def orphan(path: str) -> str:
    """Load by an approval of a klpd that has been killed since."""
    guard = Guard()
    approval = GuardApproval(in_seconds("60"), guard.generation(), guard.epoch())
    loader = os.getpid()
    ready, tell = os.pipe()
    klpd = os.fork()
    if klpd == 0:
        other = Guard()
        other.claim()
        other.approve(digest_of(path), approval, loader)
        os.write(tell, b".")
        signal.pause()
    os.read(ready, 1)
    os.kill(klpd, signal.SIGKILL)
    os.waitpid(klpd, 0)
    return by_memfd(Path(path))


def permit_writes() -> None:
    """Let anybody write to the attributes of any livepatch."""
    guard = Guard()
    guard.permit({ANY_LIVEPATCH: GuardPermission(NO_GENERATION, Permit.ALWAYS, Permit.ALWAYS)}, guard.epoch())


def next_epoch() -> None:
    Guard().next_epoch()


def entered(name: str) -> object:
    seen = Guard().entered(name)
    return None if seen is None else to_plain(seen)


def write_as_judged(name: str, attribute: str, generations: str = "0", epochs: str = "0") -> str:
    """Write 0 to an attribute as klpd does, judged so many generations and epochs ago: what becomes of it."""
    guard = Guard()
    generation, epoch = guard.generation() - int(generations), guard.epoch() - int(epochs)
    with guard.writing(name, Attribute(attribute), generation=generation, epoch=epoch):
        try:
            Path("/sys/kernel/livepatch", name, attribute).write_text("0")
        except OSError as error:
            return told(error.errno or 0)
    return "ok"


def writes_around_a_try(name: str) -> list[str]:
    """Write 0 to `force` of a livepatch in transition right after the kernel has tried to end that, and long after."""
    guard = Guard()
    before = guard.counters().tried_ns
    while guard.counters().tried_ns == before:
        time.sleep(0.005)
    time.sleep(0.05)
    right_after = write_as_judged(name, "force")
    time.sleep(0.5)
    return [right_after, write_as_judged(name, "force")]


def approve_many(count: str) -> int:
    """Approve so many other digests."""
    guard = Guard()
    for number in range(int(count)):
        guard.approve(hashlib.sha256(str(number).encode()).digest(), GuardApproval(in_seconds("60"), standing=True))
    return int(count)


def withdraw(path: str) -> bool:
    return Guard().withdraw(digest_of(path))


def events() -> object:
    """But for those that tell where a file lies."""
    return to_plain([each for each in Guard().read_events() if not isinstance(each, RefusedFileEvent)])


def files() -> object:
    """Where the files lie that were refused: path -> digest."""
    read = Guard().read_events()
    return {each.file: each.digest for each in read if isinstance(each, RefusedFileEvent)}


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
        let_ftrace_off, switch, switch_elsewhere, detach,
        detach_and_attach_again,
        approve_many, approve_others, orphan, permit_writes, next_epoch, entered, write_as_judged,
        writes_around_a_try, withdraw, events, files,
        counters, digests, patches, layout, tasks, costs, verifier,
    )
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(STEPS[sys.argv[1]](*sys.argv[2:])))
