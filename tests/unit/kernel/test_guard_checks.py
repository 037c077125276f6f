# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel lacks for the guard is found, and named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from klpd.kernel.guard_checks import obstacles

if TYPE_CHECKING:
    from pathlib import Path

MOUNTS: Final = (
    "24 1 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n30 24 0:27 / /sys/fs/bpf rw,mode=700 shared:9 - bpf bpf rw\n"
)
GOOD: Final = {
    "sys/kernel/btf/vmlinux": "",
    "sys/kernel/security/lsm": "lockdown,capability,bpf",
    "sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
    "proc/self/mountinfo": MOUNTS,
    "proc/kallsyms": "0000 t __bpf_prog_enter\n0000 t __bpf_prog_enter_recur\n",
    "proc/version": "Linux version 6.1.0 #1 SMP PREEMPT_DYNAMIC\n",
}
OLD: Final = "0000 t __bpf_prog_enter\n0000 t __bpf_prog_enter_recursively\n"
PREEMPT: Final = "sys/kernel/debug/sched/preempt"


def fill(root: Path, changes: dict[str, str | None]) -> Path:
    for name, text in {**GOOD, **changes}.items():
        if text is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return root


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"},
        {"sys/kernel/security/lockdown": None},
        {"sys/kernel/security/lsm": None},
        {"proc/kallsyms": OLD, PREEMPT: "none (voluntary) full\n"},
        {"proc/kallsyms": OLD, "proc/version": "Linux version 5.14.0 #1 SMP\n"},
    ],
    ids=["good", "integrity", "no-lockdown", "securityfs-unreadable", "voluntary", "not-preemptible"],
)
def test_nothing_speaks_against_it(tmp_path: Path, changes: dict[str, str | None]) -> None:
    assert obstacles(fill(tmp_path, changes)) == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sys/kernel/btf/vmlinux": None}, "has no BTF"),
        ({"sys/kernel/security/lsm": "lockdown,capability"}, '"bpf" is not among the active security modules'),
        ({"sys/kernel/security/lockdown": "none integrity [confidentiality]\n"}, "lockdown=confidentiality"),
        ({"proc/self/mountinfo": MOUNTS.splitlines()[0] + "\n"}, "mount -t bpf"),
        ({"proc/self/mountinfo": MOUNTS + "31 30 0:28 / /sys/fs/bpf rw - tmpfs tmpfs rw\n"}, "mount -t bpf"),
        ({"proc/kallsyms": OLD, PREEMPT: "none voluntary (full)\n"}, "boot with preempt=voluntary"),
        ({"proc/kallsyms": OLD}, "boot with preempt=voluntary"),
    ],
    ids=["btf", "lsm", "lockdown", "no-bpffs", "bpffs-hidden", "full-preemption", "preemption-unknown"],
)
def test_what_speaks_against_it_is_named(tmp_path: Path, changes: dict[str, str | None], reason: str) -> None:
    (found,) = obstacles(fill(tmp_path, changes))
    assert reason in found


def test_every_obstacle_is_named(tmp_path: Path) -> None:
    changes = {"sys/kernel/btf/vmlinux": None, "sys/kernel/security/lsm": "capability"}
    assert len(obstacles(fill(tmp_path, changes))) == 2
