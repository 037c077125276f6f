# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guard decided becomes an entry that says why."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd.daemon.enforcement import Judged
from klpd.daemon.journal import Journal
from klpd.daemon.record import Record
from klpd.kernel.guard_abi import GuardEvent, GuardVerdict, Input, Lock, Way
from klpd.messages import MessageId
from klpd.model import Decision, Finding, Rule, RuleKind, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FILE = "/lib/modules/6.1.0/updates/klp_one.ko"
RULE = Rule(RuleKind.POLICY, "/etc/klpd/policy.d/50-test.toml", 3)
EVENT = GuardEvent(
    time_ns=1,
    generation=1,
    lock=Lock.LOAD,
    way=Way.FILE,
    input=Input.LIVEPATCH,
    verdict=GuardVerdict.UNAPPROVED,
    allowed=False,
    pid=7,
    tid=7,
    uid=0,
    command="insmod",
    module="klp_one",
    size=100,
    digest="d1",
)
USED = replace(EVENT, verdict=GuardVerdict.ALLOWED, allowed=True)
LET_PASS = replace(EVENT, allowed=True)


def judged(decision: Decision) -> Judged:
    finding = Finding(decision, "livepatch-rule", RULE, "a rule says so")
    return Judged(FILE, Verdict("load", "klp_one", decision, (), (finding,)))


@pytest.fixture
def entry(tmp_path: Path) -> Iterator[Callable[[GuardEvent, Judged | None], dict[str, str]]]:
    """Records a decision and gives the entry's fields."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "socket"))
        receiver.settimeout(0)

        def recorded(event: GuardEvent, judged: Judged | None) -> dict[str, str]:
            Record(Journal(receiver.getsockname())).load_decided(event, judged)
            lines = receiver.recv(1 << 16).decode().splitlines()
            return dict(line.split("=", 1) for line in lines)

        yield recorded


@pytest.mark.parametrize(
    ("event", "known", "kind"),
    [
        (EVENT, judged(Decision.DENY), MessageId.LOAD_VETOED),
        (EVENT, None, MessageId.LOAD_VETOED),
        (USED, judged(Decision.ALLOW), MessageId.LOAD_APPROVED),
        (USED, None, MessageId.LOAD_APPROVED),
        (USED, judged(Decision.DENY), MessageId.LOAD_AUDITED),
        (LET_PASS, judged(Decision.DENY), MessageId.LOAD_AUDITED),
        (LET_PASS, None, MessageId.LOAD_AUDITED),
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
    assert entry(EVENT, Judged(FILE, None, f"{FILE}: truncated"))["KLPD_REASON"] == f"{FILE}: truncated"
