# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo itself.  Runs in the test host, as root: each command is shown, run, and held against what it is to do."""

from __future__ import annotations

import os
import pty
import re
import sys
import time
from dataclasses import dataclass

BOLD, DIM, RED, GREEN, PLAIN = "\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[0m"


@dataclass(frozen=True)
class Step:
    """A command with what is to come of it: its exit status, and patterns that its output has or lacks."""

    tells: str
    command: str
    status: int = 0
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


STEPS = (
    Step(
        "klpd runs as a systemd service on the system bus.",
        "systemctl --no-pager --lines=0 status klpd",
        has=(r"active \(running\)",),
    ),
    Step(
        "A policy is a file: livepatches of this vendor may come, and one state is sticky.",
        "cp 50-demo.toml /etc/klpd/policy.d/ && systemctl reload klpd && cat /etc/klpd/policy.d/50-demo.toml",
        has=("sticky = true",),
    ),
    Step(
        "Nothing is installed yet, and three lines of defence are up.", "klpctl status", has=("guard +up", "hold +up")
    ),
    Step(
        "What is in a livepatch? Its file tells, without loading it.",
        "klpctl inspect klp_cmdline_v1.ko",
        has=("atomic replace", "0x1001", "cmdline_proc_show"),
    ),
    Step("The kernel function that it will patch, as it is now:", "cat /proc/cmdline", lacks=("livepatch:",)),
    Step(
        "Apply it: judged, loaded, its transition awaited.", "klpctl apply klp_cmdline_v1.ko", has=("klp_cmdline_v1",)
    ),
    Step("The running kernel is patched.", "cat /proc/cmdline", has=("livepatch: klp_cmdline_v1",)),
    Step(
        "The next version brings the same state in version 2, and replaces the first.",
        "klpctl apply klp_cmdline_v2.ko",
        has=("klp_cmdline_v2",),
    ),
    Step("", "cat /proc/cmdline", has=("livepatch: klp_cmdline_v2",)),
    Step(
        "Would the older one be let in again? No, and here is why.",
        "klpctl check klp_cmdline_v1.ko",
        status=1,
        has=("downgrade", "veto"),
    ),
    Step(
        "A loader that does not ask is told no by the kernel itself, before any code of the module runs ...",
        "dmesg --clear; insmod klp_cmdline_v1.ko",
        status=1,
        has=("Operation not permitted",),
    ),
    Step(
        "... so that the kernel log has not a word of it ...",
        "dmesg | grep livepatch:",
        status=1,
        lacks=("livepatch:",),
    ),
    Step("... but klpd's has the reason.", "sleep 1; klpctl log", has=("vetoed", "klp_cmdline_v1")),
    Step(
        "The way back, as klpctl plans it: a lower version only comes in by way of the unpatched kernel.",
        "klpctl revert --yes",
        has=("disable", "remove", "load", "klp_cmdline_v1"),
    ),
    Step("", "cat /proc/cmdline", has=("livepatch: klp_cmdline_v1",)),
    Step(
        "A livepatch that the rules allow goes through with plain insmod; the open waits a moment for the verdict.",
        "insmod klp_add.ko",
        lacks=("not permitted",),
    ),
    Step("", "sleep 3; cat /proc/version", has=("livepatch: klp_add",)),
    Step(
        "A livepatch whose function a kernel thread sleeps in has to wait for it; klpctl says for whom.",
        "insmod klp_test_target.ko && echo 1 > /proc/klp_test_target/hold && "
        "{ (sleep 10; echo 0 > /proc/klp_test_target/hold) & klpctl apply klp_stuck.ko; }",
        has=("klp_test_held",),
    ),
    Step("One with a sticky state may come ...", "klpctl apply klp_sticky.ko", has=("klp_sticky",)),
    Step(
        "... but not go: the policy says so, in this file and line.",
        "klpctl disable klp_sticky",
        status=1,
        has=(r"50-demo\.toml:\d+",),
    ),
    Step(
        "The other one may go; its module is removed, too.",
        "klpctl disable klp_add",
        has=("klp_add",),
    ),
    Step("", "lsmod | grep klp_add", status=1),
    Step("The end.", "klpctl status", has=("klp_cmdline_v1", "klp_sticky")),
)


def main() -> int:
    """Play all steps; 0 if each went as told."""
    os.chdir("/root")
    for number, step in enumerate(STEPS, 1):
        if step.tells:
            print(f"\n{BOLD}{step.tells}{PLAIN}")
        print(f"{DIM}# {step.command}{PLAIN}", flush=True)
        complaint = played(step)
        if complaint:
            print(f"\n{RED}Step {number} did not go as told: {complaint}{PLAIN}")
            return 1
    print(f"\n{GREEN}All {len(STEPS)} steps went as told.{PLAIN}")
    return 0


def played(step: Step) -> str:
    """Run a step on a terminal of its own; what was not as it is to be, or nothing."""
    output = bytearray()

    def read(fd: int) -> bytes:
        data = os.read(fd, 4096)
        output.extend(data)
        return data

    status = os.waitstatus_to_exitcode(pty.spawn(["/bin/sh", "-c", step.command], read))
    text = re.sub(r"\033\[[0-9;?]*[A-Za-z]", "", output.decode(errors="replace"))
    if status != step.status:
        return f"the exit status is {status}, not {step.status}"
    for pattern in step.has:
        if not re.search(pattern, text):
            return f"the output does not have {pattern!r}"
    for pattern in step.lacks:
        if re.search(pattern, text):
            return f"the output has {pattern!r}"
    time.sleep(0.2)
    return ""


if __name__ == "__main__":
    sys.exit(main())
