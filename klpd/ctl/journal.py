# SPDX-License-Identifier: GPL-2.0-or-later
"""klpd's entries in the system journal."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from klpd.errors import KlpdError
from klpd.messages import Field, MessageId
from klpd.model import Verdict
from klpd.plain import PlainError, from_plain
from klpd.report import JobReport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeVar

    from klpd.ctl.requests import Log

    T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: when, what kind, its sentence, klpd's own fields, and the values that two of them hold."""

    time: datetime
    kind: MessageId
    message: str
    fields: Mapping[Field, str]
    verdict: Verdict | None = None
    job: JobReport | None = None


class Journal(Protocol):
    """What is needed of a systemd.journal.Reader.  Without an entry it gives an empty dictionary."""

    def add_match(self, **fields: str) -> None: ...

    def seek_head(self) -> None: ...

    def seek_tail(self) -> None: ...

    def seek_realtime(self, realtime: float) -> None: ...

    def get_next(self) -> dict[str, object]: ...

    def get_previous(self) -> dict[str, object]: ...

    def wait(self, timeout: float) -> int: ...


def open_journal() -> Journal:
    """The system journal of this machine.  Raises KlpdError where it cannot be opened."""
    from systemd import journal

    try:
        return journal.Reader(journal.LOCAL_ONLY | journal.SYSTEM)
    except OSError as error:
        raise KlpdError(f"cannot open the system journal: {error.strerror}") from error


def read_entries(reader: Journal, request: Log) -> Iterator[Entry]:
    """The entries asked for, the oldest first; with `follow` it waits for more, and does not end.

    Only what root wrote counts: anybody may write entries with klpd's message ids.
    """
    for each in MessageId:
        reader.add_match(MESSAGE_ID=each.value)
    reader.add_match(_UID="0")
    for fields in _chosen(reader, request):
        entry = parse(fields)
        if entry is not None:
            yield entry


def _chosen(reader: Journal, request: Log) -> Iterator[dict[str, object]]:
    _seek(reader, request)
    while True:
        while fields := reader.get_next():
            yield fields
        if not request.follow:
            return
        reader.wait(-1)


def _seek(reader: Journal, request: Log) -> None:
    """Stand before the first entry that is to be shown."""
    if request.count is None:
        if request.since is None:
            reader.seek_head()
        else:
            reader.seek_realtime(request.since)
        return
    # Back from the end; one step further than is to be shown, so that get_next meets the first of them.
    reader.seek_tail()
    for _each in range(request.count + 1):
        fields = reader.get_previous()
        if not fields:
            reader.seek_head()
            return
        if request.since is not None and _time(fields).timestamp() < request.since:
            return


def parse(fields: Mapping[str, object]) -> Entry | None:
    """An entry of the journal as a value; None for one that is not klpd's.

    A verdict or report that does not read (another version wrote it) is left out; the sentence tells it, too.
    """
    own = {each: value for each in Field if isinstance(value := fields.get(each.value), str | int)}
    texts = {field: str(value) for field, value in own.items()}
    try:
        # systemd.journal makes a UUID of it.
        kind = MessageId(str(fields.get("MESSAGE_ID")).replace("-", ""))
    except ValueError:
        return None
    return Entry(
        time=_time(fields),
        kind=kind,
        message=str(fields.get("MESSAGE", "")),
        fields=texts,
        verdict=_value(Verdict, texts.get(Field.FINDINGS)),
        job=_value(JobReport, texts.get(Field.REPORT)),
    )


def _time(fields: Mapping[str, object]) -> datetime:
    time = fields.get("__REALTIME_TIMESTAMP")
    if not isinstance(time, datetime):
        raise KlpdError("the journal gives an entry without a time")
    return time.astimezone()


def _value(wanted: type[T], text: str | None) -> T | None:
    if text is None:
        return None
    try:
        return from_plain(wanted, json.loads(text))
    except (PlainError, ValueError):
        return None


def why_none() -> str:
    """What to say where there are no entries."""
    if os.geteuid() == 0:
        return "no entries of klpd in the system journal"
    return "no entries of klpd that you may see: root reads the system journal, and the group systemd-journal"
