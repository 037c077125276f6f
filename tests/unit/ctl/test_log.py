# SPDX-License-Identifier: GPL-2.0-or-later
"""klpd's journal entries, read and shown."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from itertools import islice
from math import ceil, floor
from typing import TYPE_CHECKING

import pytest

from klpd.ctl.journal import parse, read_entries
from klpd.ctl.page import Page
from klpd.ctl.requests import Log
from klpd.ctl.show_log import show_entry, to_json
from klpd.messages import Field, MessageId
from klpd.plain import to_plain
from klpd.report import JobReport, JobState, StepReport, StepState
from tests.unit.ctl.examples import APPROVED, STICKY, VETOED, job, text_of

if TYPE_CHECKING:
    from klpd.ctl.journal import Entry
    from klpd.model import Verdict

TIME = datetime(2026, 3, 1, 14, 5, 6, tzinfo=UTC)
STAMP = f"{TIME.astimezone():%Y-%m-%d %H:%M:%S}"


def entry_of(kind: MessageId, message: str = "a message", verdict: Verdict | None = None, **own: str) -> Entry:
    """What the journal gives of an entry: systemd.journal makes UUIDs and times of some fields."""
    fields: dict[str, object] = {
        "MESSAGE_ID": uuid.UUID(kind.value),
        "MESSAGE": message,
        "__REALTIME_TIMESTAMP": TIME,
        "_PID": 1,
        **{f"KLPD_{name.upper()}": value for name, value in own.items()},
    }
    if verdict is not None:
        fields[Field.FINDINGS.value] = json.dumps(to_plain(verdict))
    entry = parse(fields)
    assert entry is not None
    return entry


def shown(entry: Entry) -> str:
    return text_of(show_entry(entry, Page()))


def loaded(kind: MessageId, verdict: Verdict | None, message: str = "a message") -> Entry:
    return entry_of(
        kind, message, verdict, livepatch="klp_v1", pid="812", uid="0", command="insmod", file="/root/klp_v1.ko"
    )


def test_a_veto_tells_when_what_by_whom_and_why() -> None:
    assert shown(loaded(MessageId.LOAD_VETOED, STICKY)) == (
        f"{STAMP}  vetoed       klp_v1 by insmod[812] of uid 0, from /root/klp_v1.ko\n"
        "    refused: the policy does not let an action take out state 0x1001 (console_loglevel) version 2\n"
        "      rule:   /etc/klpd/policy.d/50-site.toml:7\n"
        "      remedy: change the rule, if this has to be"
    )


def test_a_write_is_told_by_its_attribute() -> None:
    fields = {"livepatch": "klp_v1", "attribute": "enabled", "pid": "812", "uid": "0", "command": "sh"}
    assert shown(entry_of(MessageId.WRITE_ALLOWED, "a message", None, **fields)) == (
        f"{STAMP}  allowed      a write to enabled of klp_v1 by sh[812] of uid 0"
    )
    vetoed = shown(entry_of(MessageId.WRITE_VETOED, "a message", STICKY, **fields)).splitlines()
    assert vetoed[0] == f"{STAMP}  vetoed       a write to enabled of klp_v1 by sh[812] of uid 0"
    assert "does not let an action take out state 0x1001" in vetoed[1]


def test_an_approval_is_one_line() -> None:
    assert shown(loaded(MessageId.LOAD_APPROVED, APPROVED)) == (
        f"{STAMP}  approved     klp_v1 by insmod[812] of uid 0, from /root/klp_v1.ko"
    )


def test_a_job_that_was_refused_tells_the_rule_that_did() -> None:
    steps = (StepReport(STICKY, StepState.PENDING),)
    report = JobReport(7, "disable", "disable klp_v2", JobState.FAILED, steps, error="org.klpd1.Error.Vetoed")
    assert shown(entry_of(MessageId.JOB_REFUSED, report=json.dumps(to_plain(report)))) == (
        f"{STAMP}  job refused  job 7, disable klp_v2\n"
        "    refused: the policy does not let an action take out state 0x1001 (console_loglevel) version 2\n"
        "      rule:   /etc/klpd/policy.d/50-site.toml:7\n"
        "      remedy: change the rule, if this has to be"
    )


@pytest.mark.parametrize("verdict", [None, APPROVED])
def test_a_veto_for_another_reason_than_its_verdict_tells_that(verdict: Verdict | None) -> None:
    entry = loaded(MessageId.LOAD_VETOED, verdict, "vetoed: klpd had not judged these bytes")
    assert shown(entry).splitlines()[1] == "    vetoed: klpd had not judged these bytes"


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (MessageId.LIVEPATCH_ENTERED, "entered"),
        (MessageId.JOB_FAILED, "job failed"),
        (MessageId.POLICY_REJECTED, "policy"),
        (MessageId.DEFENCE_CHANGED, "defence"),
    ],
)
def test_other_entries_are_told_by_their_message(kind: MessageId, word: str) -> None:
    assert shown(entry_of(kind, "what happened")) == f"{STAMP}  {word:<11}  what happened"


@pytest.mark.parametrize("kind", MessageId)
def test_every_kind_of_entry_can_be_shown(kind: MessageId) -> None:
    assert shown(entry_of(kind)).startswith(STAMP)


def test_entries_cannot_move_the_cursor() -> None:
    assert "\x1b" not in shown(entry_of(MessageId.LOAD_VETOED, livepatch="\x1b[2J", command="\x1b[H"))


def test_the_verdict_and_the_job_in_an_entry_are_values_again() -> None:
    report = job(JobState.DONE)
    entry = entry_of(MessageId.JOB_DONE, verdict=VETOED, report=json.dumps(to_plain(report)))
    assert (entry.verdict, entry.job) == (VETOED, report)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"action": 1}'])
def test_a_verdict_that_does_not_read_is_left_out(text: str) -> None:
    entry = entry_of(MessageId.LOAD_VETOED, "the sentence", findings=text)
    assert entry.verdict is None
    assert "the sentence" in shown(entry)


def test_an_entry_of_another_kind_is_none_of_klpds() -> None:
    assert parse({"MESSAGE_ID": uuid.UUID(int=1), "__REALTIME_TIMESTAMP": TIME}) is None
    assert parse({"MESSAGE": "no id", "__REALTIME_TIMESTAMP": TIME}) is None


def test_as_json_an_entry_has_its_fields_without_prefix_and_its_values_in_whole() -> None:
    entry = loaded(MessageId.LOAD_VETOED, VETOED)
    assert to_plain(to_json(entry)) == {
        "time": TIME.astimezone().isoformat(),
        "event": "load-vetoed",
        "message_id": MessageId.LOAD_VETOED.value,
        "message": "a message",
        "fields": {"livepatch": "klp_v1", "pid": "812", "uid": "0", "command": "insmod", "file": "/root/klp_v1.ko"},
        "verdict": to_plain(VETOED),
    }


class FakeJournal:
    """A journal of klpd's entries, numbered, a minute apart; one more comes with each wait."""

    def __init__(self, count: int) -> None:
        self._entries = [self._entry(number) for number in range(count)]
        self._at = -0.5  # between entries; a whole number is the entry just read
        self.matches: dict[str, list[str]] = {}

    @staticmethod
    def _entry(number: int) -> dict[str, object]:
        time = TIME + timedelta(minutes=number)
        return {"MESSAGE_ID": MessageId.LIVEPATCH_LEFT, "MESSAGE": str(number), "__REALTIME_TIMESTAMP": time}

    def add_match(self, **fields: str) -> None:
        for name, value in fields.items():
            self.matches.setdefault(name, []).append(value)

    def seek_head(self) -> None:
        self._at = -0.5

    def seek_tail(self) -> None:
        self._at = len(self._entries) - 0.5

    def seek_realtime(self, realtime: float) -> None:
        self._at = (realtime - TIME.timestamp()) / 60 - 0.5

    def get_next(self) -> dict[str, object]:
        return self._read(floor(self._at) + 1)

    def get_previous(self) -> dict[str, object]:
        return self._read(ceil(self._at) - 1)

    def _read(self, number: int) -> dict[str, object]:
        if not 0 <= number < len(self._entries):
            return {}
        self._at = number
        return self._entries[number]

    def wait(self, timeout: float) -> int:
        assert timeout < 0, "waits without a limit"
        self._entries.append(self._entry(len(self._entries)))
        return 1


@pytest.mark.parametrize(
    ("request_", "numbers"),
    [
        (Log(None, None, follow=False), [0, 1, 2, 3, 4]),
        (Log(2, None, follow=False), [3, 4]),
        (Log(0, None, follow=False), []),
        (Log(50, None, follow=False), [0, 1, 2, 3, 4]),
        (Log(None, TIME.timestamp() + 120, follow=False), [2, 3, 4]),
        (Log(2, TIME.timestamp() + 60, follow=False), [3, 4]),
        (Log(50, TIME.timestamp() + 180, follow=False), [3, 4]),
        (Log(50, TIME.timestamp() + 999, follow=False), []),
    ],
)
def test_which_entries_are_read(request_: Log, numbers: list[int]) -> None:
    assert [int(each.message) for each in read_entries(FakeJournal(5), request_)] == numbers


@pytest.mark.parametrize(("count", "numbers"), [(2, [3, 4, 5, 6]), (0, [5, 6, 7, 8]), (50, [0, 1, 2, 3])])
def test_following_goes_on_with_what_comes(count: int, numbers: list[int]) -> None:
    entries = read_entries(FakeJournal(5), Log(count, None, follow=True))
    assert [int(each.message) for each in islice(entries, 4)] == numbers


def test_only_entries_of_klpds_kinds_that_root_wrote_are_asked_for() -> None:
    journal = FakeJournal(0)
    assert list(read_entries(journal, Log(None, None, follow=False))) == []
    assert journal.matches == {"MESSAGE_ID": [each.value for each in MessageId], "_UID": ["0"]}
