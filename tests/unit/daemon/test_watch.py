# SPDX-License-Identifier: GPL-2.0-or-later
"""The watch looks at the stack when it may have changed, and not for every module that comes or goes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from klpd.daemon.journal import Journal
from klpd.daemon.record import Record
from klpd.daemon.store import Store
from klpd.daemon.watch import Watch
from klpd.judge.rules import Mode, Permission, Policy, Ruling
from klpd.model import Installed, Leftover, Rule, RuleKind, Stack
from tests.unit.daemon.fake_kernel import FakeKernel, livepatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from klpd.model import Drift

RULE = Rule(RuleKind.POLICY, "/etc/klpd/policy.d/50-test.toml", 3)
DENY = Ruling(Permission.DENY, RULE)
POLICY = Policy(Mode.ENFORCE, DENY, DENY)


class Looks:
    """A watch on a made-up kernel, whose looks are counted."""

    def __init__(self, folder: Path) -> None:
        self.kernel = FakeKernel({})
        self.kernel.on_look = lambda _looks: self.looked.set()
        self.looked = threading.Event()
        self.store = Store(folder)
        self.later: list[Callable[[], None]] = []
        self.stacks: list[Stack] = []
        self.reconciled: list[tuple[Stack, tuple[Drift, ...]]] = []
        self.drifted: list[Drift] = []
        self.watch = Watch(
            self.kernel,
            self.store,
            Record(Journal(str(folder / "no-journal"))),
            lambda: POLICY,
            is_livepatch=lambda name: name.startswith("klp_"),
            approved=self.store.approved,
            later=lambda _seconds, function: self.later.append(function),
            looked=self.stacks.append,
            reconciled=lambda stack, drift: self.reconciled.append((stack, drift)),
            drifted=self.drifted.append,
        )


@pytest.fixture
def looks(tmp_path: Path) -> Iterator[Looks]:
    made = Looks(tmp_path)
    yield made
    made.watch.stop()


@pytest.mark.parametrize("names", [frozenset({"klp_new"}), frozenset({"dummy", "klp_new"}), None])
def test_a_livepatch_that_comes_is_a_reason_to_look(looks: Looks, names: frozenset[str] | None) -> None:
    looks.watch.modules_changed(names)
    assert looks.looked.wait(10)


def test_so_is_one_that_goes_and_a_module_left_over(looks: Looks) -> None:
    looks.kernel.now = Stack(leftovers=(Leftover("was_one", removable=True),))
    looks.watch.look()
    looks.looked.clear()
    looks.watch.modules_changed(frozenset({"was_one"}))
    assert looks.looked.wait(10)


def test_ordinary_modules_are_none(looks: Looks) -> None:
    looks.watch.modules_changed(frozenset({"dummy", "ext4"}))
    assert not looks.looked.wait(0.2)


def test_each_stack_that_is_seen_is_told_of(looks: Looks) -> None:
    looks.kernel.install(livepatch("klp_one"))
    assert looks.watch.look() == looks.stacks[-1]


def test_it_is_told_of_again_with_its_drift(looks: Looks) -> None:
    looks.kernel.install(livepatch("klp_one"))
    stack = looks.watch.look()
    looks.watch.look()
    drift = looks.watch.drift
    assert len(drift) == 1
    assert looks.reconciled == [(stack, ()), (stack, drift)]


@pytest.mark.parametrize("steady", [False, True])
def test_a_stack_that_is_not_steady_is_looked_at_until_it_is(looks: Looks, *, steady: bool) -> None:
    looks.store.approve("klp_one")
    looks.kernel.now = Stack((Installed.expected(livepatch("klp_one")),), steady=steady)
    looks.watch.look_soon()
    assert looks.looked.wait(10)
    looks.watch.stop()
    assert bool(looks.later) is not steady


def test_drift_is_told_of_when_it_is_seen_twice_and_once(looks: Looks) -> None:
    looks.kernel.install(livepatch("klp_one"))
    looks.watch.look()
    assert looks.drifted == []
    looks.watch.look()
    looks.watch.look()
    assert [each.livepatch for each in looks.drifted] == ["klp_one"]
    assert [each.livepatch for each in looks.watch.drift] == ["klp_one"]


def test_what_was_approved_is_no_drift(looks: Looks) -> None:
    looks.store.approve("klp_one")
    looks.kernel.install(livepatch("klp_one"))
    looks.watch.look()
    looks.watch.look()
    assert looks.watch.drift == ()
