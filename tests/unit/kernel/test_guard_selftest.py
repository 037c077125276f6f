# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard's self-test: what it loads, and what it makes of the answers."""

from __future__ import annotations

import errno
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from klpd.kernel.guard_abi import GuardMode, GuardVerdict, SwitchEvent, Way
from klpd.kernel.guard_selftest import Attempt, SwitchTrial, Trial, impossible_livepatch, is_own, try_to_switch
from klpd.module.elf import Elf
from klpd.module.recognise import Kind, recognise
from tests.builders import refusal

if TYPE_CHECKING:
    from pathlib import Path

    from klpd.kernel.guard_abi import GuardEvent

DIGEST: Final = "ab" * 32
REFUSED: Final = refusal(digest=DIGEST)
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


TID: Final = threading.get_native_id()
KEPT: Final = SwitchEvent(1, GuardVerdict.FORBIDDEN, allowed=False, pid=TID, tid=TID, uid=0, command="klpd")
SWITCHED: Final = replace(KEPT, verdict=GuardVerdict.OFF, allowed=True)


def switch_complaints(mode: GuardMode, code: int, *events: SwitchEvent, may: bool = False) -> list[str]:
    return list(SwitchTrial(TID, code).complaints(events, mode, may=may))


def test_a_switch_that_is_kept_on_with_an_event_is_as_it_should_be() -> None:
    assert switch_complaints(GuardMode.ENFORCE, errno.EPERM, KEPT) == []


@pytest.mark.parametrize(
    ("mode", "may"), [(GuardMode.ENFORCE, True), (GuardMode.OBSERVE, False), (GuardMode.OFF, False)]
)
def test_where_ftrace_may_be_switched_off_the_write_need_only_have_been_seen(mode: GuardMode, *, may: bool) -> None:
    assert switch_complaints(mode, errno.EINVAL, SWITCHED, may=may) == []


@pytest.mark.parametrize(
    ("code", "events", "complaint"),
    [
        (errno.EINVAL, (), "it does not see writes to kernel.ftrace_enabled (which said: Invalid argument)"),
        (errno.EPERM, (replace(KEPT, tid=TID + 1),), "it does not see writes"),
        (errno.EINVAL, (SWITCHED,), "it lets kernel.ftrace_enabled be switched off (off)"),
        (errno.EINVAL, (KEPT,), "it refused a write to kernel.ftrace_enabled, which yet said: Invalid argument"),
    ],
    ids=["unseen", "another's", "let through", "without effect"],
)
def test_a_switch_that_is_not_kept_is_a_complaint(code: int, events: tuple[SwitchEvent, ...], complaint: str) -> None:
    (told,) = switch_complaints(GuardMode.ENFORCE, code, *events)
    assert told.startswith(complaint)


def test_the_switch_is_tried_with_what_is_no_number(tmp_path: Path) -> None:
    switch = tmp_path / "ftrace_enabled"
    switch.write_text("1")
    assert try_to_switch(switch) == SwitchTrial(TID, 0)
    assert not switch.read_text().strip().isdigit()
    assert try_to_switch(tmp_path / "nonesuch/ftrace_enabled").errno == errno.ENOENT


def test_its_own_events_are_those_of_its_bytes_and_of_its_thread() -> None:
    trial = Trial(DIGEST, ())
    assert [is_own(each, trial) for each in (REFUSED, replace(REFUSED, digest="cd" * 32))] == [True, False]
    assert [is_own(each, trial) for each in (KEPT, replace(KEPT, tid=TID + 1))] == [True, False]
