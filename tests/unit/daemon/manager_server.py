# SPDX-License-Identifier: GPL-2.0-or-later
"""klpd's objects on a bus, with a made-up kernel behind them, for test_objects.py.  Prints "ready" when it is there.

What happens to the kernel is asked of /org/klpd1/test, which answers when the bus has been told of it.  No transition
ends unless that is asked for, too.  klp_drift is denied, and so is drift once it is seen twice.
"""

from __future__ import annotations

import gc
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klpd.daemon import bus
from klpd.daemon.authority import Authority
from klpd.daemon.jobs import Jobs
from klpd.daemon.journal import Journal
from klpd.daemon.loop import Loop
from klpd.daemon.manager import Manager
from klpd.daemon.planning import Planning
from klpd.daemon.policies import Policies
from klpd.daemon.record import Record
from klpd.daemon.standing import StandingApprovals
from klpd.daemon.store import Store
from klpd.daemon.unfinished import Unfinished
from klpd.daemon.watch import Watch
from klpd.judge.rules import LivepatchRule, Match, Mode, Permission, Policy, Ruling
from klpd.judge.ways import Gate
from klpd.layout import known_layout
from klpd.model import Rule, RuleKind, State
from klpd.report import BUS_NAME
from tests.unit.daemon.fake_kernel import FakeKernel, livepatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.daemon.jobs import Job
    from klpd.model import Livepatch

ALLOW: Final = Ruling(Permission.ALLOW, Rule(RuleKind.POLICY, "/etc/klpd/policy.d/50-test.toml", 3))
POLICY: Final = Policy(
    mode=Mode.ENFORCE,
    default=ALLOW,
    unknown_states=ALLOW,
    livepatches=(LivepatchRule(ALLOW.rule, Match(name="klp_drift"), Permission.DENY),),
)

CONTROL: Final = """
<node>
  <interface name="org.klpd1.Test">
    <method name="Install"><arg type="s" direction="in"/></method>
    <method name="Disable"><arg type="s" direction="in"/></method>
    <method name="Settle"/>
    <method name="ComeAndGo"/>
    <method name="Watched"/>
    <method name="Count"><arg type="u" direction="out"/></method>
  </interface>
</node>
"""


class Unguarded:
    """A kernel without a guard."""

    def approve_for_all(self, _livepatch: Livepatch, _file: str, _until_ns: int) -> None:
        return None

    def take_back(self, _digest: str) -> None:
        raise AssertionError("there is nothing to be taken back")


class Server:
    """What wiring.py puts together, without the kernel."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.watched: Future[None] = Future()
        self.bus = bus.Bus(self.loop)
        self.kernel = FakeKernel({}, lasting=None, on_look=lambda _looks: time.sleep(0.01))
        self.policies = Policies(lambda: POLICY)
        self.policies.load()
        store, record = Store(folder), Record(Journal(str(folder / "no-journal")))
        self.watch = Watch(
            self.kernel,
            store,
            record,
            lambda: POLICY,
            is_livepatch=lambda _name: True,
            approved=store.approved,
            later=lambda _seconds, _function: None,
            looked=lambda _stack: None,
            reconciled=lambda stack, drift: self.loop.call_soon(lambda: self.manager.stack_seen(stack, drift)),
            drifted=lambda drift: self.loop.call_soon(lambda: self.manager.drift_found(drift)),
        )
        jobs = Jobs(
            self.kernel,
            lambda: POLICY,
            store,
            Unfinished(folder),
            changed=self.job_changed,
            ended=self.watch.look,
        )
        self.manager = Manager(
            loop=self.loop,
            bus=self.bus,
            authority=Authority(lambda: self.bus.connection),
            kernel=self.kernel,
            policies=self.policies,
            planning=Planning(
                self.kernel,
                self.policies,
                store,
                known_layout,
                lambda _livepatch, _data: None,
                watched=lambda _fd: False,
                gate=lambda: Gate.CLOSED,
            ),
            record=record,
            jobs=jobs,
            standing=StandingApprovals(Unguarded(), store.find, folder / "approvals"),
            defences=lambda: (),
            drift=lambda: self.watch.drift,
            reload=lambda: self.watched,
            open_guard=lambda _uid: None,
            close_guard=lambda _uid: None,
        )

    def run(self) -> None:
        control = {
            "Install": lambda call: self.told(lambda: self.install(call.text(0))),
            "Disable": lambda call: self.told(lambda: self.disable(call.text(0))),
            "Settle": lambda _call: self.told(self.settle),
            "ComeAndGo": lambda _call: self.told(self.come_and_go),
            "Watched": lambda _call: self.told(lambda: self.watched.set_result(None)),
            "Count": lambda _call: count(),
        }
        self.bus.publish("/org/klpd1/test", CONTROL, control, dict)
        self.bus.serve(BUS_NAME, tried=lambda: print("ready", flush=True), taken=self.loop.quit)
        self.loop.run()

    def job_changed(self, job: Job) -> None:
        report = job.report
        self.loop.call_soon(lambda: self.manager.job_changed(report))

    def told(self, happens: Callable[[], None]) -> Future[None]:
        happens()
        done: Future[None] = Future()
        self.loop.call_soon(lambda: done.set_result(None))
        return done

    def install(self, name: str) -> None:
        self.kernel.install(livepatch(name, cumulative=False, states=(State(0x1001, 1),)))
        self.watch.look()

    def disable(self, name: str) -> None:
        """As a root user does with `echo 0`."""
        self.kernel.set_enabled(name, enabled=False)
        self.watch.look()

    def settle(self) -> None:
        self.kernel.settle()
        self.watch.look()

    def come_and_go(self) -> None:
        self.install("klp_guest")
        self.kernel.disable_behind_the_back("klp_guest")
        self.watch.look()


def count() -> int:
    """How many objects that are, or were, on the bus are still in memory."""
    gc.collect()
    return sum(isinstance(each, bus._Object) for each in gc.get_objects())


if __name__ == "__main__":
    Server(Path(sys.argv[1])).run()
