# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guard is to do on this machine now: the policy's mode, unless somebody has opened the gate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from klpd.errors import GuardError, KernelError
from klpd.judge.rules import Mode, Permission
from klpd.kernel.guard import Guard, GuardState
from klpd.kernel.guard_abi import GuardMode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from klpd.judge.rules import Policy

OPENED: Final = Path("/run/klpd/guard-open")
"""There while the gate is to stay open, until the next boot at the latest."""
SWITCH: Final = "klpd.guard=off"
"""On the kernel's command line: the machine boots without a guard."""


def switched_off(root: Path = Path("/")) -> bool:
    """Whether the kernel's command line wants no guard."""
    return SWITCH in (root / "proc/cmdline").read_text(encoding="utf-8", errors="replace").split()


def guard_mode(mode: Mode, opened: Path = OPENED) -> GuardMode:
    """The guard's mode under a policy of this mode."""
    if opened.exists():
        return GuardMode.OFF
    return GuardMode.ENFORCE if mode is Mode.ENFORCE else GuardMode.OBSERVE


def have_guard(policy: Policy, handed: Mapping[str, int] | None = None) -> Guard:
    """A guard that does as the policy says, unless somebody has opened the gate; `handed` as in Guard.

    Raises GuardError where this kernel cannot have one, or KernelError.
    """
    return Guard.close_gate(guard_mode(policy.mode), handed=handed, ftrace_off=_ftrace_off(policy))


def obey(guard: Guard, policy: Policy) -> None:
    """Have the guard do as another policy says, unless somebody has opened the gate.  Raises KernelError."""
    guard.set_mode(guard_mode(policy.mode), ftrace_off=_ftrace_off(policy))


def _ftrace_off(policy: Policy) -> bool:
    return policy.ftrace_off is Permission.ALLOW


def open_gate(guard: Guard, opened: Path = OPENED) -> None:
    """Refuse nothing from now on, whatever the policy says and whoever restarts.  Raises KernelError."""
    try:
        opened.parent.mkdir(mode=0o755, exist_ok=True)
        opened.touch()
    except OSError as error:
        raise KernelError.of(f"cannot make {opened}", error) from error
    guard.set_mode(GuardMode.OFF)


def close_gate(guard: Guard, mode: Mode, opened: Path = OPENED) -> None:
    """Do as the policy's mode says again, and test that it is so.

    Raises KernelError; GuardError where the guard refuses nothing, or not all, for another reason than the policy.
    """
    try:
        opened.unlink(missing_ok=True)
    except OSError as error:
        raise KernelError.of(f"cannot remove {opened}", error) from error
    guard.set_mode(guard_mode(mode, opened))
    guard.test()
    status = guard.status()
    if status.state not in (GuardState.CLOSED, GuardState.OBSERVING):
        raise GuardError(f"the guard is {status.state}: {status.reason}; put that right, and systemctl restart klpd")
