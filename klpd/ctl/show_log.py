# SPDX-License-Identifier: GPL-2.0-or-later
"""Journal entries as people read them: when, what, which livepatch, by whom, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.ctl.page import Span, Tone, line
from klpd.ctl.show_verdict import obstacle, reasons
from klpd.messages import Field, MessageId
from klpd.model import Decision

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.ctl.journal import Entry
    from klpd.ctl.page import Line, Page

_KINDS: Final = {
    MessageId.LOAD_VETOED: ("vetoed", Tone.BAD),
    MessageId.LOAD_APPROVED: ("approved", Tone.GOOD),
    MessageId.LOAD_AUDITED: ("audited", Tone.WARN),
    MessageId.LOAD_UNGUARDED: ("gate open", Tone.BAD),
    MessageId.REFUSED_FILE_JUDGED: ("judged", Tone.PLAIN),
    MessageId.APPROVAL_GIVEN: ("approval", Tone.GOOD),
    MessageId.APPROVAL_TAKEN_BACK: ("approval", Tone.PLAIN),
    MessageId.WRITE_VETOED: ("vetoed", Tone.BAD),
    MessageId.WRITE_ALLOWED: ("allowed", Tone.GOOD),
    MessageId.WRITE_AUDITED: ("audited", Tone.WARN),
    MessageId.WRITE_UNGUARDED: ("gate open", Tone.BAD),
    MessageId.SWITCH_VETOED: ("vetoed", Tone.BAD),
    MessageId.SWITCH_ALLOWED: ("switched", Tone.BAD),
    MessageId.LIVEPATCH_ENTERED: ("entered", Tone.PLAIN),
    MessageId.LIVEPATCH_LEFT: ("left", Tone.PLAIN),
    MessageId.JOB_DONE: ("job done", Tone.GOOD),
    MessageId.JOB_FAILED: ("job failed", Tone.BAD),
    MessageId.JOB_REFUSED: ("job refused", Tone.BAD),
    MessageId.POLICY_LOADED: ("policy", Tone.PLAIN),
    MessageId.POLICY_REJECTED: ("policy", Tone.BAD),
    MessageId.DRIFT_FOUND: ("drift", Tone.BAD),
    MessageId.GUARD_OPENED: ("guard", Tone.BAD),
    MessageId.GUARD_CLOSED: ("guard", Tone.GOOD),
    MessageId.DEFENCE_CHANGED: ("defence", Tone.PLAIN),
    MessageId.HOLD_TIMED_OUT: ("hold", Tone.WARN),
    MessageId.HOLD_REFUSED: ("hold", Tone.WARN),
    MessageId.EVENTS_LOST: ("lost", Tone.WARN),
    MessageId.WITHHELD: ("more", Tone.WARN),
}
_LET: Final = frozenset({MessageId.LOAD_APPROVED, MessageId.WRITE_ALLOWED})
_ACTS: Final = _LET | {
    MessageId.LOAD_VETOED,
    MessageId.LOAD_AUDITED,
    MessageId.LOAD_UNGUARDED,
    MessageId.WRITE_VETOED,
    MessageId.WRITE_AUDITED,
    MessageId.WRITE_UNGUARDED,
}
"""What some program did, or wanted to."""
_INDENT: Final = 4


def show_entry(entry: Entry, page: Page) -> Iterator[Line]:
    """A line for the entry; for what was refused, the reasons below it."""
    word, tone = _KINDS[entry.kind]
    head = line(Span(f"{entry.time:%Y-%m-%d %H:%M:%S}  ", Tone.FAINT), Span(f"{word:<11}  ", tone))
    refused = None if entry.job is None or entry.kind is not MessageId.JOB_REFUSED else obstacle(entry.job)
    if entry.kind in _ACTS:
        yield from page.paragraph(_act(entry), head=head, indent=_INDENT)
        yield from _why(entry, page)
    elif entry.job is not None and refused is not None:
        yield from page.paragraph(f"job {entry.job.id}, {entry.job.goal}", head=head, indent=_INDENT)
        yield from reasons(refused, page, indent=_INDENT)
    else:
        yield from page.paragraph(entry.message, head=head, indent=_INDENT)


def _act(entry: Entry) -> str:
    """What somebody did to a livepatch, or wanted to: he loaded it, or wrote to one of its attributes."""
    fields = entry.fields
    attribute = f"a write to {fields[Field.ATTRIBUTE]} of " if Field.ATTRIBUTE in fields else ""
    text = attribute + (fields.get(Field.LIVEPATCH) or "(no name)")
    if Field.PID in fields:
        text += f" by {fields.get(Field.COMMAND, '?')}[{fields[Field.PID]}]"
    if Field.UID in fields:
        text += f" of uid {fields[Field.UID]}"
    return text + (f", from {fields[Field.FILE]}" if Field.FILE in fields else "")


def _why(entry: Entry, page: Page) -> Iterator[Line]:
    if entry.kind in _LET:
        return
    if entry.verdict is None or entry.verdict.decision is Decision.ALLOW:
        why = entry.fields.get(Field.REASON, entry.message)
        yield from page.paragraph(why, head=line(" " * _INDENT), indent=_INDENT)
    else:
        yield from reasons(entry.verdict, page, indent=_INDENT)


def to_json(entry: Entry) -> dict[str, object]:
    """An entry as a value for JSON; absent where there is none: fields, verdict, job."""
    texts = {
        each.value.removeprefix("KLPD_").lower(): text
        for each, text in entry.fields.items()
        if each not in (Field.FINDINGS, Field.REPORT)
    }
    return {
        "time": entry.time.isoformat(),
        "event": entry.kind.name.lower().replace("_", "-"),
        "message_id": entry.kind.value,
        "message": entry.message,
        "fields": texts,
        "verdict": entry.verdict,
        "job": entry.job,
    }
