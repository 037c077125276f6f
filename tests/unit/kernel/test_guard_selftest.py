# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard's self-test: what it loads, and what it makes of the answers."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Final

import pytest

from klpd.kernel.guard_abi import GuardEvent, GuardMode, GuardVerdict, Input, Lock, Way
from klpd.kernel.guard_selftest import Attempt, Trial, impossible_livepatch
from klpd.module.elf import Elf
from klpd.module.recognise import Kind, recognise

DIGEST: Final = "ab" * 32
REFUSED: Final = GuardEvent(
    time_ns=1,
    generation=1,
    lock=Lock.LOAD,
    way=Way.FILE,
    input=Input.LIVEPATCH,
    verdict=GuardVerdict.UNAPPROVED,
    allowed=False,
    mode=GuardMode.ENFORCE,
    pid=1,
    tid=1,
    uid=0,
    command="klpd",
    module="klpd_selftest",
    size=400,
    digest=DIGEST,
)
PASSED: Final = replace(REFUSED, allowed=True)


def test_its_livepatch_is_one_by_its_tag_and_for_no_machine() -> None:
    data = impossible_livepatch("klpd_selftest_1")
    assert recognise(data) is Kind.LIVEPATCH
    elf = Elf.read(data)
    assert elf.machine == "EM_NONE"
    assert [bytes(elf.content(each)) for each in elf.named(b".modinfo")] == [b"livepatch=Y\0name=klpd_selftest_1\0"]


def complaints(mode: GuardMode, code: int, *events: GuardEvent) -> list[str]:
    return list(Trial(DIGEST, (Attempt(Way.FILE, code),)).complaints(events, mode))


def test_a_refusal_with_an_event_is_as_it_should_be() -> None:
    assert complaints(GuardMode.ENFORCE, errno.EPERM, REFUSED) == []


@pytest.mark.parametrize("mode", [GuardMode.OBSERVE, GuardMode.OFF])
def test_a_guard_that_only_watches_need_only_have_seen_it(mode: GuardMode) -> None:
    assert complaints(mode, errno.ENOEXEC, PASSED) == []


@pytest.mark.parametrize("mode", GuardMode)
def test_a_refusal_without_an_event_is_somebody_elses(mode: GuardMode) -> None:
    (complaint,) = complaints(mode, errno.EPERM)
    assert complaint == "it does not see finit_module (which said: Operation not permitted)"


def test_an_event_of_other_bytes_or_another_way_does_not_count() -> None:
    other_bytes = replace(REFUSED, digest="cd" * 32)
    other_way = replace(REFUSED, way=Way.BUFFER)
    assert len(complaints(GuardMode.ENFORCE, errno.EPERM, other_bytes, other_way)) == 1


def test_an_event_that_says_let_through_is_a_complaint() -> None:
    (complaint,) = complaints(GuardMode.ENFORCE, errno.ENOEXEC, PASSED)
    assert "let pass an unapproved livepatch" in complaint


def test_an_event_whose_refusal_did_not_arrive_is_a_complaint() -> None:
    (complaint,) = complaints(GuardMode.ENFORCE, errno.ENOEXEC, REFUSED)
    assert "which yet said: Exec format error" in complaint
