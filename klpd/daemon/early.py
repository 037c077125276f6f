# SPDX-License-Identifier: GPL-2.0-or-later
"""Closes the gate early in boot, before anything loads a livepatch: klpd-guard.service.

It loads and pins the guard and ends; klpd adopts the pins when it comes.  A policy that does not check closes the gate.
"""

from __future__ import annotations

import sys

from klpd.daemon.journal import Journal
from klpd.daemon.record import Record
from klpd.errors import KlpdError, PolicyError
from klpd.judge.rules import builtin_policy
from klpd.kernel.gate import SWITCH, have_guard, switched_off
from klpd.kernel.guard import GuardEvent, GuardState, SwitchEvent, WriteEvent
from klpd.policy import read_policy


def main() -> int:
    """Close the gate; 1 where that cannot be, with the reason on standard error."""
    if switched_off():
        print(f"the gate stays open: {SWITCH} is on the kernel's command line", file=sys.stderr)
        return 0
    try:
        policy = read_policy()
    except PolicyError as error:
        print(f"the policy does not check, so the gate is closed: {error.account}", file=sys.stderr)
        policy = builtin_policy("the files do not check")
    try:
        guard = have_guard(policy)
        status = guard.status()
    except KlpdError as error:
        print(error, file=sys.stderr)
        return 1
    # Where the gate was closed already, the self-test has taken what it had to tell, and klpd would never hear of it.
    record = Record(Journal())
    for event in guard.read_events():
        if isinstance(event, GuardEvent):
            record.load_decided(event, None)
        elif isinstance(event, WriteEvent):
            record.write_decided(event, None)
        elif isinstance(event, SwitchEvent):
            record.switch_decided(event)
    print(f"the guard is {status.state}" + (f": {status.reason}" if status.reason else ""))
    return int(status.state is GuardState.INEFFECTIVE)


if __name__ == "__main__":
    sys.exit(main())
