# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever happens at whatever moment while files are judged: nobody is let in, and no write, that the facts of that
moment deny.

What klpd asks and tells is the only way in which anything may come between, so there the schedule has things happen;
after each, everybody who may have an approval tries to load, and to write.
"""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import replace
from functools import cache
from itertools import combinations_with_replacement, product
from typing import TYPE_CHECKING, Final

import pytest

from klpd import module
from klpd.daemon.enforcement import Enforcement
from klpd.daemon.store import Store
from klpd.judge.permissions import enabled_action, permits
from klpd.judge.verdict import judge
from klpd.kernel.guard_abi import Attribute, GuardVerdict
from klpd.layout import known_layout
from klpd.model import Circumstances, Decision, Load, Stack, Surroundings
from tests import builders
from tests.builders import declares, denying, installed, sticky
from tests.guard_model import LET_IN, GuardModel
from tests.livepatches.build import build

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from klpd.judge.rules import Policy
    from klpd.kernel.guard_abi import GuardApproval, GuardPermission
    from klpd.layout import Layouts
    from klpd.model import Installed, Livepatch

NAME: Final = "klp_add"
SITE: Final = builders.policy(sticky(0x2001))
DENIES: Final = builders.policy(sticky(0x2001), default=denying())
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a manifest root's")


NEAR: Final = 6
"""What happens further apart than so many moments is as if it happened alone."""


@cache
def file() -> bytes:
    return build()[NAME].read_bytes()


@cache
def the_livepatch() -> Livepatch:
    return module.read_livepatch(file(), file=f"{NAME}.ko")


class Guard(GuardModel):
    """The model, with a moment at each question and each answer."""

    world: World

    def epoch(self) -> int:
        self.world.moment()
        return super().epoch()

    def generation(self) -> int:
        self.world.moment()
        return super().generation()

    def approve(self, digest: bytes, approval: GuardApproval, process: int = 0) -> None:
        self.world.moment()
        super().approve(digest, approval, process)
        self.world.moment()

    def withdraw(self, digest: bytes) -> bool:
        self.world.moment()
        return super().withdraw(digest)

    def permit(self, permissions: Mapping[str, GuardPermission], epoch: int) -> None:
        self.world.moment()
        super().permit(permissions, epoch)
        self.world.moment()


class World:
    """The kernel, the policy and what is declared, and klpd's judging of them."""

    def __init__(self, folder: Path, schedule: Mapping[int, str]) -> None:
        self.schedule = schedule
        self.moments = 0
        self.waiting: list[str] = []
        self.folder = folder
        self.path = str(folder / f"{NAME}.ko")
        self.livepatches: tuple[Installed, ...] = (installed("klp_a", {0x2001: 1}), installed("klp_b", {0x2001: 1}))
        self.policy = self.official_policy = SITE
        self.official = the_livepatch()
        self.guard = Guard()
        self.guard.world = self
        self.store = Store(folder / "store", declared=self.guard.next_epoch)
        self.enforcement = Enforcement(self, self.read_policy, self.store, self.guard, known_layout)  # type: ignore[arg-type]

    def stack(self) -> Stack:
        """As RunningKernel reads it: the epoch and the generation first."""
        epoch, generation = self.guard.epoch(), self.guard.generation()
        self.moment()
        now = replace(self.now, epoch=epoch, generation=generation)
        self.moment()
        return now

    def circumstances(self) -> Circumstances:
        return Circumstances()

    def surrounded(
        self, stack: Stack, coming: Iterable[Livepatch], circumstances: Circumstances | None = None
    ) -> Stack:
        return replace(stack, surroundings=Surroundings())

    @property
    def now(self) -> Stack:
        return Stack(self.livepatches, kernel_release=the_livepatch().kernel_release)

    def read_policy(self) -> Policy:
        self.moment()
        return self.policy

    def moment(self) -> None:
        """Nothing, or what the schedule has for it, as soon as nobody holds a lock that it would wait for."""
        self.moments += 1
        self.waiting += [self.schedule[self.moments]] if self.moments in self.schedule else []
        if self.waiting and not self._locked():
            getattr(self, self.waiting.pop(0))()
        self.check()

    def _locked(self) -> bool:
        return any(each.locked() for each in (self.enforcement._lock, self.enforcement._permitting))

    def reload(self, policy: Policy = DENIES) -> None:
        self.policy = policy
        self.moment()
        GuardModel.next_epoch(self.guard)
        self.official_policy = policy

    def declare(self) -> None:
        text = f'[livepatch]\nsha256 = "{the_livepatch().digest}"\n[[state]]\nid = 0x1003\nversion = 9\n'
        (self.folder / f"{NAME}.livepatch.toml").write_text(text)
        self.moment()
        GuardModel.next_epoch(self.guard)
        self.official = replace(the_livepatch(), declared=declares({0x1003: 9}))

    def remember(self) -> None:
        """Somebody hands over what is declared, for the bytes that are judged meanwhile."""
        declared = replace(the_livepatch(), declared=declares({0x1003: 9}))
        self.enforcement.remember(declared, file())
        self.moment()

    def another_comes(self) -> None:
        self._change((*self.livepatches, installed("klp_newer", {0x1003: 2})))

    def one_goes(self) -> None:
        self._change(tuple(each for each in self.livepatches if each.name != "klp_b"))

    def _change(self, livepatches: tuple[Installed, ...]) -> None:
        # With klp_mutex held, which nobody comes by.
        self.guard.present_generation += 1
        self.livepatches = livepatches
        self.guard.present_generation += 1

    def stop(self) -> None:
        self.guard.alive = False

    def look(self) -> None:
        self.enforcement.permit(self.stack())

    def another_opens(self) -> None:
        self.enforcement.judge(file(), self.path, 8)

    def check(self) -> None:
        """Everybody tries what he may."""
        for digest, process in self.guard.approvals:
            if GuardModel.load(_copy(self.guard), digest, process) in LET_IN:
                verdict = judge(self.now, Load(self.official), self.official_policy)
                assert self.guard.alive
                assert verdict.decision is Decision.ALLOW
        for each in self.livepatches:
            if self.guard.write(each.name, Attribute.ENABLED) is GuardVerdict.ALLOWED:
                assert permits(judge(self.now, enabled_action(each), self.official_policy))


def _copy(guard: Guard) -> GuardModel:
    return GuardModel(
        guard.mode, guard.present_epoch, guard.present_generation, guard.alive, guard.now, deepcopy(guard.approvals)
    )


HAPPENS: Final = ("reload", "declare", "another_comes", "one_goes", "stop", "look", "another_opens")


def play(folder: Path, schedule: Mapping[int, str]) -> int:
    """A look at the stack, an opener, and another look; how many moments there were."""
    folder.mkdir()
    world = World(folder, schedule)
    world.look()
    world.enforcement.judge(file(), world.path, 7)
    world.moment()
    world.look()
    return world.moments


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes are the same livepatch: they are read once."""
    the_livepatch()

    def read(_data: bytes, *, file: str, layouts: Layouts) -> Livepatch:
        return the_livepatch()

    monkeypatch.setattr("klpd.daemon.enforcement.module.read_livepatch", read)


def test_where_nothing_happens_the_opener_may_load(tmp_path: Path) -> None:
    folder = tmp_path / "quiet"
    folder.mkdir()
    world = World(folder, {})
    world.enforcement.judge(file(), world.path, 7)
    digest = bytes.fromhex(the_livepatch().digest)
    assert world.guard.load(digest, 8) is GuardVerdict.UNAPPROVED
    assert world.guard.load(digest, 7) is GuardVerdict.ALLOWED


def test_whatever_happens_once_nobody_gets_in_that_is_denied_then(tmp_path: Path) -> None:
    moments = play(tmp_path / "quiet", {})
    for at, happens in product(range(1, moments + 1), HAPPENS):
        play(tmp_path / f"{at}-{happens}", {at: happens})


def test_whatever_happens_twice_nobody_gets_in_that_is_denied_then(tmp_path: Path) -> None:
    moments = play(tmp_path / "quiet", {})
    first = ("reload", "another_comes", "one_goes", "another_opens")
    second = ("declare", "stop", "look", "another_opens")
    for before, after in combinations_with_replacement(range(1, moments + 1), 2):
        for one, other in product(first, second):
            if before < after < before + NEAR:
                play(tmp_path / f"{before}-{one}-{after}-{other}", {before: one, after: other})
