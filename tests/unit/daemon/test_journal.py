# SPDX-License-Identifier: GPL-2.0-or-later
"""Journal entries are sent without waiting, in order, and what is lost is told of."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import pytest

from klpd.daemon.journal import Handler, Journal, encode
from klpd.messages import MessageId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "socket"))
        receiver.settimeout(0)
        yield receiver


def received(receiver: socket.socket) -> list[bytes]:
    entries = []
    while True:
        try:
            entries.append(receiver.recv(1 << 20))
        except BlockingIOError:
            return entries


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("short", b"FIELD=short\n"),
        ("", b"FIELD=\n"),
        ("two\nlines", b"FIELD\n\x09\0\0\0\0\0\0\0two\nlines\n"),
        ("\udcff", b"FIELD=\\udcff\n"),
    ],
)
def test_fields_are_encoded_as_journald_reads_them(value: str, encoded: bytes) -> None:
    assert encode({"FIELD": value}) == encoded


def test_what_is_too_long_is_cut_to_text_and_the_entry_says_so() -> None:
    entry = encode({"MESSAGE": "ä" * 100_000, "KLPD_FINDINGS": '{"x": "' + "y" * 100_000 + '"}', "KLPD_PID": "7"})
    message, pid, cut = entry.decode().splitlines()
    assert message.startswith("MESSAGE=äää")
    assert message.endswith("ä... (cut)")
    assert (pid, cut) == ("KLPD_PID=7", "KLPD_CUT=MESSAGE KLPD_FINDINGS")


def test_an_entry_has_a_bound_however_many_fields_are_long() -> None:
    entry = encode({f"FIELD{number}": "x" * 1_000_000 for number in range(50)} | {"PRIORITY": "4"})
    assert len(entry) < 170_000
    assert b"\nPRIORITY=... (cut)\n" in entry


def test_a_large_entry_arrives_even_where_a_socket_takes_little(journald: socket.socket) -> None:
    journal = Journal(journald.getsockname())
    journal.event(
        MessageId.LOAD_VETOED, logging.WARNING, "vetoed: " + "x" * 1_000_000, {"KLPD_REASON": "y" * 1_000_000}
    )
    (usual,) = received(journald)
    assert usual.startswith(b"MESSAGE=vetoed: xxx")
    assert 7_900 < len(usual) < 8_300
    journal._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel makes the least of it
    journal.event(
        MessageId.LOAD_VETOED, logging.WARNING, "vetoed: " + "x" * 1_000_000, {"KLPD_REASON": "y" * 1_000_000}
    )
    (least,) = received(journald)
    assert least.startswith(b"MESSAGE=vetoed: xxx")
    assert b"MESSAGE_ID=" + MessageId.LOAD_VETOED.encode() in least
    assert least.endswith(b"KLPD_CUT=MESSAGE KLPD_REASON\n")


def test_an_event_carries_its_message_id_and_fields(journald: socket.socket) -> None:
    journal = Journal(journald.getsockname())
    journal.event(MessageId.LOAD_VETOED, logging.WARNING, "vetoed", {"KLPD_LIVEPATCH": "klp_one"})
    (entry,) = received(journald)
    assert entry.splitlines() == [
        b"MESSAGE=vetoed",
        b"PRIORITY=4",
        b"SYSLOG_IDENTIFIER=klpd",
        b"MESSAGE_ID=" + MessageId.LOAD_VETOED.encode(),
        b"KLPD_LIVEPATCH=klp_one",
    ]


def test_entries_wait_for_a_journald_that_does_not_read_and_arrive_in_order(journald: socket.socket) -> None:
    journal = Journal(journald.getsockname())
    for number in range(900):
        journal.send({}, logging.INFO, str(number))
    assert journal.pending
    entries = received(journald)
    while journal.pending:
        journal.flush()
        entries += received(journald)
    messages = [entry.split(b"\n", 1)[0] for entry in entries]
    assert messages == [b"MESSAGE=%d" % number for number in range(900)]


def test_what_exceeds_the_bound_is_counted_and_told_of(journald: socket.socket) -> None:
    journal = Journal(journald.getsockname())
    for number in range(3000):
        journal.send({}, logging.INFO, str(number))
    entries = received(journald)
    while journal.pending:
        journal.flush()
        entries += received(journald)
    journal.flush()
    entries += received(journald)
    lost = 3000 - sum(entry.split(b"\n", 1)[0].removeprefix(b"MESSAGE=").isdigit() for entry in entries)
    assert lost > 0
    assert any(entry.startswith(b"MESSAGE=%d journal entries of klpd were lost" % lost) for entry in entries)


def test_without_a_journald_entries_wait(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "nobody"))
    journal.send({}, logging.INFO, "early")
    assert journal.pending == 1


def test_messages_that_come_again_and_again_are_counted(
    journald: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("klpd.daemon.journal.time.monotonic", lambda: now[0])
    handler = Handler(Journal(journald.getsockname()))
    logger = logging.Logger("klpd.test", logging.DEBUG)
    logger.addHandler(handler)
    entries = []
    for number in range(100):
        logger.warning("not judged: %s", number)
        logger.debug("looked at %s", number)
        entries += received(journald)
    logger.warning("another")
    entries += received(journald)
    assert sum(b"MESSAGE=not judged" in each for each in entries) == 20
    assert sum(b"MESSAGE=looked at" in each for each in entries) == 100
    assert any(b"MESSAGE=another" in each for each in entries)
    now[0] = 61.0
    handler.flush()
    (entry,) = received(journald)
    assert b"MESSAGE_ID=" + MessageId.WITHHELD.encode() in entry.splitlines()
    assert b"KLPD_COUNT=80" in entry.splitlines()
    logger.warning("not judged: %s", "again")
    assert len(received(journald)) == 1
    for _number in range(30):
        logger.warning("not judged: %s", "at last")
        received(journald)
    handler.close()
    assert b"KLPD_COUNT=11" in received(journald)[0]
