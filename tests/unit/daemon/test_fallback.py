# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands in for the guard: which loads it refuses, and that each is recorded once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest

from klpd.daemon import fallback as fallback_module
from klpd.daemon.enforcement import Judged
from klpd.daemon.fallback import Fallback, FileLoad
from klpd.kernel.guard_abi import GuardMode
from klpd.kernel.threads import Thread
from klpd.model import Decision, Finding, Rule, RuleKind, Verdict

if TYPE_CHECKING:
    from klpd.daemon.enforcement import Enforcement
    from klpd.daemon.record import Record

FILE = "/lib/modules/6.1.0/updates/klp_one.ko"
RULE = Rule(RuleKind.POLICY, "/etc/klpd/policy.d/50-test.toml", 3)


def judged(decision: Decision, digest: str = "d1") -> Judged:
    finding = Finding(decision, "livepatch-rule", RULE, "a rule says so")
    verdict = Verdict("load", "klp_one", decision, (), (finding,))
    return Judged(FILE, digest, verdict, obstructed=decision is not Decision.ALLOW)


ALLOWED = judged(Decision.ALLOW)
DENIED = judged(Decision.DENY)
UNREADABLE = Judged(FILE, "d1", None, obstructed=True, unreadable="truncated")
AUDITED = Judged(FILE, "d1", None, obstructed=False, unreadable="truncated")


@dataclass
class Played:
    """An enforcement that says what a test says, and a record that notes it."""

    says: Judged | None = None
    mode: GuardMode = GuardMode.ENFORCE
    recorded: list[tuple[str, bool]] = field(default_factory=list)
    approved: list[str] = field(default_factory=list)

    def judge(self, data: bytes, file: str, pid: int) -> Judged | None:
        return self.says

    def load_answered(self, thread: Thread, judged: Judged, mode: GuardMode, *, refused: bool) -> None:
        self.recorded.append((judged.digest, refused))


@pytest.fixture
def played() -> Played:
    return Played()


@pytest.fixture
def fallback(played: Played, monkeypatch: pytest.MonkeyPatch) -> Fallback:
    monkeypatch.setattr(fallback_module, "check_access", lambda: None)
    enforcement, record = cast("Enforcement", played), cast("Record", played)
    return Fallback(enforcement, record, lambda: played.mode, played.approved.append)


def load(judged: Judged, *, tid: int = 7, refused: bool = False) -> FileLoad:
    mode = GuardMode.ENFORCE if refused or judged.allowed else GuardMode.OBSERVE
    return FileLoad(Thread(tid, tid, 0, "insmod"), judged, mode)


@pytest.mark.parametrize(
    ("says", "mode", "refused"),
    [
        (ALLOWED, GuardMode.ENFORCE, False),
        (DENIED, GuardMode.ENFORCE, True),
        (judged(Decision.UNKNOWN), GuardMode.ENFORCE, True),
        (UNREADABLE, GuardMode.ENFORCE, True),
        (AUDITED, GuardMode.ENFORCE, False),
        (DENIED, GuardMode.OBSERVE, False),
        (DENIED, GuardMode.OFF, False),
    ],
)
def test_what_the_policy_does_not_let_in_is_refused_where_anything_is(
    fallback: Fallback, played: Played, says: Judged, mode: GuardMode, *, refused: bool
) -> None:
    played.says, played.mode = says, mode
    found = fallback.judge(b"", FILE, os.getpid())
    assert found is not None
    assert found.refused is refused
    assert found.thread.pid == os.getpid()


def test_an_ordinary_module_is_no_matter_of_it(fallback: Fallback) -> None:
    assert fallback.judge(b"", FILE, os.getpid()) is None


def test_a_load_that_is_let_in_is_recorded_and_approved_once_though_the_kernel_reads_twice(
    fallback: Fallback, played: Played
) -> None:
    for _read in range(2):
        fallback.answered(load(ALLOWED))
    assert played.recorded == [("d1", False)]
    assert played.approved == ["d1"]


def test_the_next_load_of_the_same_thread_is_recorded_again(fallback: Fallback, played: Played) -> None:
    for _read in range(4):
        fallback.answered(load(ALLOWED))
    assert played.recorded == [("d1", False)] * 2


def test_each_refusal_is_recorded(fallback: Fallback, played: Played) -> None:
    for _load in range(2):
        fallback.answered(load(DENIED, refused=True))
    assert played.recorded == [("d1", True)] * 2
    assert played.approved == []


def test_a_load_that_is_refused_at_its_second_read_is_recorded_as_that_too(fallback: Fallback, played: Played) -> None:
    fallback.answered(load(ALLOWED))
    fallback.answered(load(DENIED, refused=True))
    assert played.recorded == [("d1", False), ("d1", True)]


def test_loads_of_other_threads_and_of_other_files_are_recorded_each(fallback: Fallback, played: Played) -> None:
    fallback.answered(load(ALLOWED))
    fallback.answered(load(ALLOWED, tid=8))
    fallback.answered(load(judged(Decision.ALLOW, "d2")))
    assert [digest for digest, _refused in played.recorded] == ["d1", "d1", "d2"]


def test_what_is_let_in_against_the_policy_is_recorded_and_not_approved(fallback: Fallback, played: Played) -> None:
    fallback.answered(load(DENIED))
    assert played.recorded == [("d1", False)]
    assert played.approved == []
