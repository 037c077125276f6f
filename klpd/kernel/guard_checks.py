# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel must have for the guard to work, found out before it is tried: each lack has a reason of its own.

Some of them would let the guard load and attach, and then never ask it.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klpd.kernel.switches import memory_is_confidential

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path("/")
BPFFS: Final = "/sys/fs/bpf"
_POINTER_SIZE: Final = struct.calcsize("P")


def obstacles(root: Path = ROOT) -> tuple[str, ...]:
    """Why the guard cannot work here; empty where nothing speaks against it."""
    return tuple(_obstacles(root))


def _obstacles(root: Path) -> Iterator[str]:
    if _POINTER_SIZE != 8:
        yield "the guard reads modules of 64 bit kernels only"
    if not (root / "sys/kernel/btf/vmlinux").exists():
        yield "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)"
    modules = _read(root / "sys/kernel/security/lsm").strip().split(",")
    if "bpf" not in modules and modules != [""]:
        # Attaching would succeed all the same: CONFIG_BPF_LSM makes the hooks, lsm= decides whether they are called.
        yield (
            f'"bpf" is not among the active security modules ({",".join(modules)}): '
            "add it to lsm= on the kernel's command line"
        )
    if memory_is_confidential(root):
        yield "lockdown=confidentiality forbids BPF programs to read kernel memory; lockdown=integrity allows it"
    if not has_bpffs(root):
        yield f"no bpf file system is mounted at {BPFFS}: mount -t bpf bpf {BPFFS}"
    if _skips_preempted_programs(root):
        yield (
            "with full preemption this kernel skips a security program that another task was preempted in "
            "(no __bpf_prog_enter_recur, before Linux 6.2): boot with preempt=voluntary"
        )


def has_bpffs(root: Path = ROOT) -> bool:
    """Whether something can be pinned."""
    return _is_bpffs(_read(root / "proc/self/mountinfo"))


def _is_bpffs(mountinfo: str) -> bool:
    """Whether the topmost mount there is one (proc(5): the mount point is field 5, the type comes after " - ")."""
    types = [line.partition(" - ")[2].split(" ")[0] for line in mountinfo.splitlines() if line.split(" ")[4] == BPFFS]
    return types[-1:] == ["bpf"]


def _skips_preempted_programs(root: Path) -> bool:
    """Before "bpf: Remove prog->active check for bpf_lsm and bpf_iter" (Linux 6.2, and 6.1 stable).

    That commit gave the function that guards against recursion a name of its own, since not all go through it now.
    """
    if " __bpf_prog_enter_recur\n" in _read(root / "proc/kallsyms"):
        return False
    chosen = _read(root / "sys/kernel/debug/sched/preempt")
    if chosen:
        return "(full)" in chosen
    return "PREEMPT" in _read(root / "proc/version")


def _read(path: Path) -> str:
    """The file's text; empty where it cannot be read, which speaks for nothing and against nothing."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
