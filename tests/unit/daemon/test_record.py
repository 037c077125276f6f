# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guard decided becomes an entry that says why."""

from __future__ import annotations

import errno
import json
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd.daemon.enforcement import Judged
from klpd.daemon.journal import Journal
from klpd.daemon.record import Record
from klpd.errors import KernelError
from klpd.kernel.guard_abi import (
    Attribute,
    GuardMode,
    GuardVerdict,
    Lock,
    SwitchEvent,
    Way,
    WriteEvent,
)
from klpd.kernel.threads import Thread
from klpd.messages import MessageId
from klpd.model import Decision, Finding, Rule, RuleKind, Verdict
from klpd.plain import from_plain
from klpd.report import Defence, DefenceState, JobReport, JobState, PolicyReport
from tests.builders import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from klpd.kernel.guard_abi import (
        GuardEvent,
    )

FILE = "/lib/modules/6.1.0/updates/klp_one.ko"
RULE = Rule(RuleKind.POLICY, "/etc/klpd/policy.d/50-test.toml", 3)
EVENT = refusal()
USED = replace(EVENT, verdict=GuardVerdict.ALLOWED, allowed=True)
LOADER = Thread(tid=8, pid=7, uid=1, command="insmod")
UNREADABLE = Judged(FILE, "d1", None, obstructed=True, unreadable=f"{FILE}: truncated")
LET_PASS = replace(EVENT, allowed=True, mode=GuardMode.OBSERVE)
AUDITED = replace(LET_PASS, verdict=GuardVerdict.AUDITED)
UNGUARDED = replace(EVENT, allowed=True, mode=GuardMode.OFF, verdict=GuardVerdict.OFF)


def judged(decision: Decision) -> Judged:
    finding = Finding(decision, "livepatch-rule", RULE, "a rule says so")
    return Judged(FILE, "d1", Verdict("load", "klp_one", decision, (), (finding,)), decision is not Decision.ALLOW)


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Callable[[Callable[[Record], None]], dict[str, str]]]:
    """Has something recorded and gives the entry's fields."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "socket"))
        receiver.settimeout(0)

        def fields(write: Callable[[Record], None]) -> dict[str, str]:
            write(Record(Journal(receiver.getsockname())))
            lines = receiver.recv(1 << 20).decode().splitlines()
            return dict(line.split("=", 1) for line in lines)

        yield fields


@pytest.fixture
def entry(
    recorded: Callable[[Callable[[Record], None]], dict[str, str]],
) -> Callable[[GuardEvent, Judged | None], dict[str, str]]:
    """Records a decision of the guard and gives the entry's fields."""
    return lambda event, known: recorded(lambda record: record.load_decided(event, known))


@pytest.mark.parametrize(
    ("event", "known", "kind"),
    [
        (EVENT, judged(Decision.DENY), MessageId.LOAD_VETOED),
        (EVENT, None, MessageId.LOAD_VETOED),
        (USED, judged(Decision.ALLOW), MessageId.LOAD_APPROVED),
        (USED, None, MessageId.LOAD_APPROVED),
        (USED, judged(Decision.DENY), MessageId.LOAD_APPROVED),
        (AUDITED, judged(Decision.DENY), MessageId.LOAD_AUDITED),
        (AUDITED, None, MessageId.LOAD_AUDITED),
        (LET_PASS, judged(Decision.DENY), MessageId.LOAD_AUDITED),
        (LET_PASS, None, MessageId.LOAD_AUDITED),
        (UNGUARDED, judged(Decision.DENY), MessageId.LOAD_UNGUARDED),
        (UNGUARDED, None, MessageId.LOAD_UNGUARDED),
    ],
)
def test_the_kind_tells_what_became_of_the_load(
    entry: Callable[[GuardEvent, Judged | None], dict[str, str]],
    event: GuardEvent,
    known: Judged | None,
    kind: MessageId,
) -> None:
    assert entry(event, known)["MESSAGE_ID"] == kind


def test_a_veto_names_who_what_and_the_rule(entry: Callable[[GuardEvent, Judged | None], dict[str, str]]) -> None:
    fields = entry(EVENT, judged(Decision.DENY))
    assert fields["KLPD_LIVEPATCH"] == "klp_one"
    assert fields["KLPD_COMMAND"] == "insmod"
    assert fields["KLPD_FILE"] == FILE
    assert fields["KLPD_RULE"] == "/etc/klpd/policy.d/50-test.toml:3"
    assert fields["KLPD_REASON"] == "a rule says so (/etc/klpd/policy.d/50-test.toml:3)"


def test_bytes_that_nobody_judged_are_refused_with_a_way_out(
    entry: Callable[[GuardEvent, Judged | None], dict[str, str]],
) -> None:
    assert "klpctl apply FILE" in entry(EVENT, None)["KLPD_REASON"]


def test_a_file_that_could_not_be_read_says_why(entry: Callable[[GuardEvent, Judged | None], dict[str, str]]) -> None:
    assert entry(EVENT, UNREADABLE)["KLPD_REASON"] == f"{FILE}: truncated"


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (GuardVerdict.EXPIRED, "too long ago"),
        (GuardVerdict.STALE, "another livepatch came or went"),
        (GuardVerdict.SUPERSEDED, "the policy, or what is declared"),
        (GuardVerdict.ORPHANED, "the klpd that approved it has ended"),
    ],
)
def test_an_approval_that_was_void_is_told_with_why(
    entry: Callable[[GuardEvent, Judged | None], dict[str, str]], verdict: GuardVerdict, reason: str
) -> None:
    assert reason in entry(replace(EVENT, verdict=verdict), judged(Decision.ALLOW))["KLPD_REASON"]


@pytest.mark.parametrize(
    ("known", "mode", "refused", "kind"),
    [
        (judged(Decision.DENY), GuardMode.ENFORCE, True, MessageId.LOAD_VETOED),
        (judged(Decision.DENY), GuardMode.OBSERVE, False, MessageId.LOAD_AUDITED),
        (judged(Decision.DENY), GuardMode.OFF, False, MessageId.LOAD_UNGUARDED),
        (judged(Decision.ALLOW), GuardMode.ENFORCE, False, MessageId.LOAD_APPROVED),
        (UNREADABLE, GuardMode.ENFORCE, True, MessageId.LOAD_VETOED),
        (UNREADABLE, GuardMode.OBSERVE, False, MessageId.LOAD_AUDITED),
    ],
)
def test_without_a_guard_the_kind_tells_what_became_of_the_load(
    recorded: Callable[[Callable[[Record], None]], dict[str, str]],
    known: Judged,
    mode: GuardMode,
    *,
    refused: bool,
    kind: MessageId,
) -> None:
    fields = recorded(lambda record: record.load_answered(LOADER, known, mode, refused=refused))
    assert fields["MESSAGE_ID"] == kind


def test_without_a_guard_a_veto_names_who_what_how_and_the_rule(
    recorded: Callable[[Callable[[Record], None]], dict[str, str]],
) -> None:
    fields = recorded(
        lambda record: record.load_answered(LOADER, judged(Decision.DENY), GuardMode.ENFORCE, refused=True)
    )
    assert {name: value for name, value in fields.items() if name.startswith("KLPD_") and name != "KLPD_FINDINGS"} == {
        "KLPD_LIVEPATCH": "klp_one",
        "KLPD_DIGEST": "d1",
        "KLPD_PID": "7",
        "KLPD_UID": "1",
        "KLPD_COMMAND": "insmod",
        "KLPD_WAY": "finit_module",
        "KLPD_FILE": FILE,
        "KLPD_DECISION": "deny",
        "KLPD_RULE": "/etc/klpd/policy.d/50-test.toml:3",
        "KLPD_REASON": "a rule says so (/etc/klpd/policy.d/50-test.toml:3)",
    }


@pytest.mark.parametrize(("reading", "text"), [(False, "process 7 opened"), (True, "thread 7 read")])
def test_who_went_on_without_a_verdict_is_told(
    recorded: Callable[[Callable[[Record], None]], dict[str, str]], *, reading: bool, text: str
) -> None:
    fields = recorded(lambda record: record.hold_timed_out(FILE, 7, None, reading=reading))
    assert fields["MESSAGE_ID"] == MessageId.HOLD_TIMED_OUT
    assert fields["MESSAGE"].startswith(text)


WRITE = WriteEvent(
    time_ns=1,
    generation=1,
    livepatch="klp_one",
    attribute=Attribute.ENABLED,
    verdict=GuardVerdict.FORBIDDEN,
    allowed=False,
    pid=7,
    tid=7,
    uid=0,
    command="sh",
)
DENIED = Verdict("disable", "klp_one", Decision.DENY, (), (Finding(Decision.DENY, "state-change", RULE, "it stays"),))
FREE = Verdict("disable", "klp_one", Decision.ALLOW, (), (Finding(Decision.ALLOW, "no-rule", RULE, "it may go"),))
KERNEL = Verdict(
    "disable",
    "klp_one",
    Decision.DENY,
    (),
    (Finding(Decision.DENY, "transition-running", Rule(RuleKind.KERNEL, "enabled_store"), "busy"),),
)
STALE = replace(WRITE, verdict=GuardVerdict.STALE)
OFF = replace(WRITE, verdict=GuardVerdict.OFF, allowed=True)


@pytest.mark.parametrize(
    ("event", "verdict", "kind", "reason"),
    [
        (WRITE, DENIED, MessageId.WRITE_VETOED, "it stays (/etc/klpd/policy.d/50-test.toml:3)"),
        (WRITE, FREE, MessageId.WRITE_VETOED, "stale: "),
        (STALE, None, MessageId.WRITE_VETOED, "stale: "),
        (replace(WRITE, allowed=True), DENIED, MessageId.WRITE_AUDITED, "it stays"),
        (replace(WRITE, verdict=GuardVerdict.ALLOWED, allowed=True), FREE, MessageId.WRITE_ALLOWED, ""),
        (replace(WRITE, verdict=GuardVerdict.ALLOWED, allowed=True), KERNEL, MessageId.WRITE_ALLOWED, ""),
        (OFF, DENIED, MessageId.WRITE_UNGUARDED, "it stays"),
        (OFF, FREE, MessageId.WRITE_ALLOWED, ""),
    ],
)
def test_a_write_is_told_with_what_became_of_it_and_why(
    recorded: Callable[[Callable[[Record], None]], dict[str, str]],
    event: WriteEvent,
    verdict: Verdict | None,
    kind: MessageId,
    reason: str,
) -> None:
    fields = recorded(lambda record: record.write_decided(event, verdict))
    assert fields["MESSAGE_ID"] == kind
    assert fields.get("KLPD_REASON", "").startswith(reason)
    assert (fields["KLPD_LIVEPATCH"], fields["KLPD_ATTRIBUTE"], fields["KLPD_COMMAND"]) == ("klp_one", "enabled", "sh")


SWITCH = SwitchEvent(1, GuardVerdict.FORBIDDEN, allowed=False, pid=7, tid=7, uid=0, command="sysctl")


@pytest.mark.parametrize(
    ("event", "kind", "priority", "reason"),
    [
        (SWITCH, MessageId.SWITCH_VETOED, 4, "the kernel would not call the guard any more; klpctl guard open"),
        (replace(SWITCH, allowed=True), MessageId.SWITCH_ALLOWED, 1, "let through, since klpd audits"),
        (
            replace(SWITCH, verdict=GuardVerdict.OFF, allowed=True),
            MessageId.SWITCH_ALLOWED,
            1,
            "let through, since the g",
        ),
        (
            replace(SWITCH, verdict=GuardVerdict.ALLOWED, allowed=True),
            MessageId.SWITCH_ALLOWED,
            1,
            "let through, since the p",
        ),
    ],
    ids=["refused", "audit", "gate open", "policy"],
)
def test_who_switches_ftrace_off_is_told_and_why_he_may_or_not(
    recorded: Callable[[Callable[[Record], None]], dict[str, str]],
    event: SwitchEvent,
    kind: MessageId,
    priority: int,
    reason: str,
) -> None:
    fields = recorded(lambda record: record.switch_decided(event))
    assert (fields["MESSAGE_ID"], fields["PRIORITY"]) == (kind, str(priority))
    assert fields["KLPD_REASON"].startswith(reason)
    assert (fields["KLPD_SWITCH"], fields["KLPD_COMMAND"], fields["KLPD_PID"], fields["KLPD_UID"]) == (
        *("kernel.ftrace_enabled", "sysctl", "7", "0"),
    )
    assert "sysctl[7] of uid 0" in fields["MESSAGE"]


@pytest.mark.parametrize(("length", "count"), [(10, 1), (900_000, 1), (200, 2000), (20_000, 300)])
def test_a_veto_has_its_entry_whatever_its_rules_say(
    entry: Callable[[GuardEvent, Judged | None], dict[str, str]], length: int, count: int
) -> None:
    allowed = Finding(Decision.ALLOW, "state-change", RULE, "x" * length, state=1)
    denied = Finding(Decision.DENY, "livepatch-rule", RULE, "y" * length)
    verdict = Verdict("load", "klp_one", Decision.DENY, (), (*[allowed] * (count - 1), denied))
    fields = entry(EVENT, Judged(FILE, "d1", verdict, obstructed=True))
    assert fields["MESSAGE_ID"] == MessageId.LOAD_VETOED
    assert fields["KLPD_REASON"].startswith("yyy")
    told = from_plain(Verdict, json.loads(fields["KLPD_FINDINGS"]))
    assert told.reasons
    if (length, count) == (10, 1):
        assert (told, "KLPD_CUT" in fields) == (verdict, False)
    else:
        assert "KLPD_FINDINGS" in fields["KLPD_CUT"]


def test_a_policy_with_many_faults_is_told_of_with_how_many_more(
    recorded: Callable[[Callable[[Record], None]], dict[str, str]],
) -> None:
    report = PolicyReport("enforce", "deny", "deny", (), errors=tuple(f"{number}.toml: wrong" for number in range(30)))
    fields = recorded(lambda record: record.policy_rejected(report))
    assert fields["MESSAGE"].endswith("; 19.toml: wrong; and 10 more")


@pytest.fixture
def entries(tmp_path: Path) -> Iterator[tuple[Record, Callable[[], list[dict[str, str]]]]]:
    """A record, and what it has written since it was last asked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "socket"))
        receiver.settimeout(0)

        def written() -> list[dict[str, str]]:
            found: list[dict[str, str]] = []
            while True:
                try:
                    lines = receiver.recv(1 << 16).decode().splitlines()
                except BlockingIOError:
                    return found
                found.append(dict(line.split("=", 1) for line in lines))

        yield Record(Journal(receiver.getsockname())), written


def test_what_a_user_can_bring_about_at_will_is_counted_and_takes_nothing_from_others(
    entries: tuple[Record, Callable[[], list[dict[str, str]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    record, written = entries
    now = [0.0]
    monkeypatch.setattr("klpd.daemon.record.time.monotonic", lambda: now[0])
    first = []
    for pid in range(1000):
        record.hold_timed_out(FILE, pid, 1000, reading=False)
        first += written()
    record.hold_timed_out(FILE, 7, None, reading=False)
    first += written()
    assert [each["KLPD_PID"] for each in first] == [*map(str, range(10)), "7"]
    record.tell_withheld()
    assert written() == []
    now[0] = 60.0
    record.tell_withheld()
    (more,) = written()
    assert (more["MESSAGE_ID"], more["KLPD_COUNT"]) == (MessageId.WITHHELD, "990")
    assert "by user 1000" in more["MESSAGE"]


def test_of_the_same_bytes_refused_again_and_again_the_rest_are_counted_and_others_told(
    entries: tuple[Record, Callable[[], list[dict[str, str]]]],
) -> None:
    record, written = entries
    told = []
    for _load in range(1000):
        record.load_decided(EVENT, None)
        told += written()
    record.load_decided(replace(EVENT, digest="another"), None)
    told += written()
    assert [each["MESSAGE_ID"] for each in told] == [MessageId.LOAD_VETOED] * 101
    record.tell_withheld(all_of_them=True)
    (more,) = written()
    assert more["KLPD_COUNT"] == "900"
    assert EVENT.digest in more["MESSAGE"]


def test_jobs_that_somebody_is_not_authorized_for_are_counted_and_vetoes_are_not(
    entries: tuple[Record, Callable[[], list[dict[str, str]]]],
) -> None:
    record, written = entries
    refused = JobReport(1, "apply", "apply x", JobState.FAILED, error="org.klpd1.Error.NotAuthorized", uid=1000)
    told = []
    for _job in range(50):
        record.job_ended(refused)
        record.job_ended(replace(refused, error="org.klpd1.Error.Vetoed"))
        told += written()
    assert len(told) == 60
    record.tell_withheld(all_of_them=True)
    (more,) = written()
    assert more["KLPD_COUNT"] == "40"


@pytest.mark.parametrize(
    ("number", "text"), [(errno.EMFILE, "LimitNOFILE="), (errno.EINTR, "lease"), (errno.EIO, "try again")]
)
def test_an_opener_who_was_refused_for_klpd_is_told_with_what_to_do(
    recorded: Callable[[Callable[[Record], None]], dict[str, str]], number: int, text: str
) -> None:
    fields = recorded(lambda record: record.hold_refused(KernelError("cannot take it", number)))
    assert fields["MESSAGE_ID"] == MessageId.HOLD_REFUSED
    assert text in fields["MESSAGE"]


def test_lost_decisions_are_told_by_their_number(
    recorded: Callable[[Callable[[Record], None]], dict[str, str]],
) -> None:
    fields = recorded(lambda record: record.events_lost(1362))
    assert (fields["MESSAGE_ID"], fields["KLPD_COUNT"]) == (MessageId.EVENTS_LOST, "1362")


def test_what_is_too_big_is_not_sent_to_a_command_that_refuses_it_too(
    entry: Callable[[GuardEvent, Judged | None], dict[str, str]],
) -> None:
    fields = entry(replace(EVENT, verdict=GuardVerdict.TOO_BIG), None)
    assert "klpctl apply" not in fields["KLPD_REASON"]
    assert "64 MiB" in fields["KLPD_REASON"]


@pytest.mark.parametrize("allowed", [False, True])
def test_what_the_second_lock_refuses_names_what_the_loader_says(
    entry: Callable[[GuardEvent, Judged | None], dict[str, str]], *, allowed: bool
) -> None:
    stopped = replace(EVENT, lock=Lock.ENTRY, way=Way.ENTRY, verdict=GuardVerdict.STALE, allowed=allowed)
    assert ("Cannot allocate memory" in entry(stopped, None)["KLPD_REASON"]) is not allowed


@pytest.mark.parametrize(("alarm", "priority"), [(False, "4"), (True, "1")])
def test_a_guard_that_should_refuse_and_does_not_is_an_alert(
    recorded: Callable[[Callable[[Record], None]], dict[str, str]], *, alarm: bool, priority: str
) -> None:
    down = Defence("guard", DefenceState.DOWN, "ineffective")
    assert recorded(lambda record: record.defence(down, alarm=alarm))["PRIORITY"] == priority
