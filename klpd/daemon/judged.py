# SPDX-License-Identifier: GPL-2.0-or-later
"""Actions done to the kernel on the very stack that they were judged on: what comes too late is judged anew."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from klpd.daemon.running import Kernel
from klpd.errors import JobError, KernelError, OvertakenError, VetoedError
from klpd.judge.rules import Policy
from klpd.judge.verdict import judge, obstructs
from klpd.model import Disable, Force, Load, Remove, Reverse
from klpd.module.parameters import kernel_string

if TYPE_CHECKING:
    from klpd.model import Action, Installed, Stack, Verdict

PATIENCE_STEP: Final = 0.05
REMOVAL_PATIENCE: Final = 5.0
"""Seconds for the last reference to a disabled livepatch's module to go (klp_free_patch_finish runs on a worker)."""
_MOST_TRIES: Final = 5
"""How often an action is judged anew because the stack became another one before the kernel could do it."""


class OverError(JobError):
    """The transition that was to be reversed or forced is over, or goes elsewhere; nothing was done."""


def veto(verdict: Verdict) -> VetoedError:
    """The error for an action that the verdict does not let happen."""
    reasons = "; ".join(str(each) for each in verdict.reasons)
    return VetoedError(f"{verdict.action} of {verdict.livepatch} is refused: {reasons}", verdict)


@dataclass(frozen=True, slots=True)
class JudgedKernel:
    """A kernel that does only what the policy allows.

    `data_of` gives the bytes of the livepatch with a digest; `loading` is told of each that is to be loaded, and the
    parameters.
    """

    kernel: Kernel
    policy: Callable[[], Policy]
    data_of: Callable[[str], bytes]
    loading: Callable[[str, tuple[str, ...]], None] = lambda _digest, _parameters: None

    def do(
        self,
        action: Action,
        moving: Installed | None = None,
        *,
        about_to: Callable[[Stack], None] = lambda _stack: None,
    ) -> tuple[Stack, Verdict]:
        """Have the kernel do `action`; the stack and the verdict that it was done on.

        The kernel does it on the stack that it was judged on, or not at all: then it is judged anew.  `moving` is the
        livepatch whose transition is to be reversed or forced, as it was met; None: as it is now.  `about_to` is told
        of the stack when the verdict is there, before anything is done.

        Raises VetoedError, OverError where that transition has ended or goes elsewhere by now, and KernelError.
        """
        tries = 0
        while True:
            tries += 1
            stack = self.kernel.stack()
            if isinstance(action, Reverse | Force):
                moving = _still_moving(stack, action, moving)
            policy = self.policy()
            seen = self.kernel.surrounded(stack, (action.livepatch,)) if isinstance(action, Load) else stack
            verdict = judge(seen, action, policy)
            if obstructs(verdict, policy):
                raise veto(verdict)
            about_to(stack)
            try:
                self._write(action, stack)
            except OvertakenError:
                if tries == _MOST_TRIES:
                    raise
            else:
                return stack, verdict

    def _write(self, action: Action, stack: Stack) -> None:
        match action:
            case Load(livepatch):
                parameters = kernel_string(livepatch.parameters or ())
                data = self.data_of(livepatch.digest)
                # Before it is there: whoever looks then is to know with which.
                self.loading(livepatch.digest, livepatch.parameters or ())
                self.kernel.load(data, livepatch.name, stack, parameters)
            case Disable(name):
                self.kernel.set_enabled(name, enabled=False, judged=stack)
            case Reverse(name):
                forwards = stack.transition is not None and stack.transition.enabled
                self.kernel.set_enabled(name, enabled=not forwards, judged=stack)
            case Force(name):
                self.kernel.force(name, stack)
            case Remove(name):
                self.remove(name)

    def remove(self, name: str) -> None:
        """Remove a module, with patience for its last reference.  Raises KernelError."""
        deadline = time.monotonic() + REMOVAL_PATIENCE
        while True:
            try:
                self.kernel.remove(name)
            except KernelError as error:
                if error.errno != errno.EAGAIN or time.monotonic() > deadline:
                    raise
                time.sleep(PATIENCE_STEP)
            else:
                return


def _still_moving(stack: Stack, action: Reverse | Force, met: Installed | None) -> Installed:
    """The livepatch in transition, if it is the one that `action` is about, and on the way on which it was `met`.

    Raises OverError: what ends a transition means another thing once that has ended, or has been turned round.
    """
    moving = stack.transition
    doing = "reversed" if isinstance(action, Reverse) else "forced"
    if moving is None or moving.name != action.name:
        raise OverError(f"the transition of {action.name} had come to its end before it could be {doing}")
    if met is not None and moving.enabled is not met.enabled:
        raise OverError(f"the transition of {action.name} was reversed by somebody else before it could be {doing}")
    return moving
