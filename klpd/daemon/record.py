# SPDX-License-Identifier: GPL-2.0-or-later
"""The record: what klpd decided and saw, as journal entries that people can read and programs can match."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from klpd.daemon.journal import ALERT, LONGEST_JSON
from klpd.daemon.limit import Limit
from klpd.errors import MOST_TOLD, NotAuthorizedError, VetoedError
from klpd.files import LARGEST_MODULE
from klpd.judge.permissions import permits
from klpd.kernel.guard_abi import GuardMode, GuardVerdict, Lock, Way
from klpd.messages import Field, MessageId
from klpd.model import Verdict
from klpd.plain import to_plain
from klpd.report import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from klpd.daemon.enforcement import Judged
    from klpd.daemon.journal import Journal
    from klpd.errors import KernelError
    from klpd.kernel.guard import GuardEvent, SwitchEvent, WriteEvent
    from klpd.kernel.threads import Thread
    from klpd.model import Drift, Installed
    from klpd.plain import Plain
    from klpd.report import Defence, JobReport, PolicyReport, StandingApproval


_SHORTER: Final = ((1000, 100), (400, 30), (150, 10), (150, 3))
"""What verdicts and reports are cut to, as far as they need it: characters of a text, items of a list."""

_NOT_JUDGED: Final = (
    "stale: klpd had not judged it yet for the stack and the policy as they were then; while klpd runs, try again"
)

_BY_KLPCTL: Final = "load it with klpctl apply FILE, or let any program load it: klpctl approve FILE"
_NOT_AUTHORIZED: Final = NotAuthorizedError.dbus_name
_MOST: Final = 10
_SECONDS: Final = 60.0
"""Of what anybody can bring about at will, so many entries are written in so many seconds."""
_MOST_VETOES: Final = 100
"""And of refusals of the same bytes: a service that loads them again and again is not to drown the others."""
_REMEDIES: Final = {
    errno.EINTR: "let whoever has a lease on it (/proc/locks) give it back, and try again",
    errno.EMFILE: "raise LimitNOFILE= of klpd.service (systemctl edit klpd)",
    errno.ENFILE: "raise fs.file-max (sysctl)",
}


@dataclass(frozen=True, slots=True)
class _Often:
    """A kind of entries that may be many: of one user (None: who may load modules; root), or with one errno."""

    id: MessageId
    of: int | None

    def __str__(self) -> str:
        match self.id:
            case MessageId.HOLD_REFUSED:
                return f"opens of files that klpd could not have ({os.strerror(self.of or 0)})"
            case MessageId.HOLD_TIMED_OUT if self.of is None:
                return "files opened or read before there was a verdict, by who may load modules"
            case MessageId.HOLD_TIMED_OUT:
                return f"files opened or read before there was a verdict, by user {self.of}"
            case _:
                return f"jobs that user {self.of} is not authorized for"


_AUDITING: Final = "let through, since klpd audits"
_OPEN: Final = "let through, since the gate is open"
_FTRACE: Final = "kernel.ftrace_enabled"
_SWITCH_OFF: Final = 'klpctl guard open lifts this for a time, ftrace-off = "allow" in the policy for good'
_LET_SWITCH: Final = {
    GuardVerdict.OFF: _OPEN,
    GuardVerdict.ALLOWED: "let through, since the policy allows it",
}
_VOID: Final = {
    GuardVerdict.EXPIRED: "it was approved when its file was opened, which is too long ago",
    GuardVerdict.STALE: "another livepatch came or went since it was approved",
    GuardVerdict.SUPERSEDED: "the policy, or what is declared of livepatches, has changed since it was approved",
    GuardVerdict.ORPHANED: "the klpd that approved it has ended",
}
"""Why an approval was good for nothing."""
_ENTRY: Final = "refused when it was to be installed; its loader says: Cannot allocate memory"
"""kobject_add_internal gives the error of the entry's security hook as ENOMEM (sysfs_create_dir_ns)."""


class Record:
    """Writes the entries; may be used from any thread."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._limit: Limit[_Often] = Limit(_MOST, _SECONDS)
        self._vetoes: Limit[str] = Limit(_MOST_VETOES, _SECONDS)
        self._lock = threading.Lock()

    def load_decided(self, event: GuardEvent, judged: Judged | None) -> None:
        """The guard let a livepatch through or refused it."""
        who = f"{event.command}[{event.pid}]"
        name = event.module or "a module without a name"
        fields = {
            Field.LIVEPATCH: event.module,
            Field.DIGEST: event.digest,
            Field.PID: str(event.pid),
            Field.UID: str(event.uid),
            Field.COMMAND: event.command,
            Field.WAY: event.way.value,
        }
        if judged is not None:
            fields.update(_judged_fields(judged))
        if event.verdict is GuardVerdict.ALLOWED:
            self._approved(who, name, fields)
        elif event.allowed:
            self._let_in(who, name, fields, _why(judged, event), event.mode)
        elif event.verdict is not GuardVerdict.COMPRESSED:  # that one comes back decompressed, and is judged then
            self._vetoed(who, name, fields, _why(judged, event))

    def refused_file_judged(self, file: str, judged: Judged, unwatched: str) -> None:
        """A file that was refused, since nobody had judged it, was judged after that.

        `unwatched` is why it will not be judged when it is opened again; empty if it will.
        """
        which = f"{file}, which was refused before it was judged"
        level = logging.INFO
        if judged.obstructed:
            text = f"denied: {which}: {judged.reasons}"
        elif unwatched:
            text = f"allowed: {which}; it cannot be watched ({unwatched}), so {_BY_KLPCTL}"
            level = logging.WARNING
        else:
            text = f"allowed now: {which}; load it again"
        name = "" if judged.verdict is None else judged.verdict.livepatch
        fields = {Field.LIVEPATCH: name, Field.DIGEST: judged.digest, **_judged_fields(judged)}
        self._event(MessageId.REFUSED_FILE_JUDGED, level, text, fields)

    def refused_file_not_judged(self, file: str, why: str) -> None:
        """A file that was refused, since nobody had judged it, could not be judged after that either."""
        text = f"not judged: {file}, which was refused before it was judged: {why}; {_BY_KLPCTL}"
        self._event(MessageId.REFUSED_FILE_JUDGED, logging.WARNING, text, {Field.FILE: file})

    def load_answered(self, thread: Thread, judged: Judged, mode: GuardMode, *, refused: bool) -> None:
        """Where there is no guard: a livepatch that somebody loads from a file was let through or refused.

        `mode` is what a guard would have been in.
        """
        who = f"{thread.command}[{thread.pid}]"
        name = judged.file if judged.verdict is None else judged.verdict.livepatch
        fields = {
            Field.LIVEPATCH: "" if judged.verdict is None else judged.verdict.livepatch,
            Field.DIGEST: judged.digest,
            Field.PID: str(thread.pid),
            Field.UID: str(thread.uid),
            Field.COMMAND: thread.command,
            Field.WAY: Way.FILE.value,
            **_judged_fields(judged),
        }
        if refused:
            self._vetoed(who, name, fields, judged.reasons)
        elif judged.allowed:
            self._approved(who, name, fields)
        else:
            self._let_in(who, name, fields, judged.reasons, mode)

    def write_decided(self, event: WriteEvent, verdict: Verdict | None) -> None:
        """The guard let a program write to an attribute of a livepatch, or refused it."""
        who = f"{event.command}[{event.pid}]"
        what = f"{event.attribute} of {event.livepatch}"
        fields = {
            Field.LIVEPATCH: event.livepatch,
            Field.ATTRIBUTE: event.attribute.value,
            Field.PID: str(event.pid),
            Field.UID: str(event.uid),
            Field.COMMAND: event.command,
        }
        refused = verdict is not None and not permits(verdict)
        if verdict is not None and refused:
            fields.update(_verdict_fields(verdict))
        if event.verdict is GuardVerdict.ALLOWED or (event.verdict is GuardVerdict.OFF and not refused):
            self._event(MessageId.WRITE_ALLOWED, logging.INFO, f"allowed: {who} writes to {what}", fields)
            return
        fields[Field.REASON] = _reasons(verdict) if verdict is not None and refused else _NOT_JUDGED
        if event.allowed:
            kind = MessageId.WRITE_UNGUARDED if event.verdict is GuardVerdict.OFF else MessageId.WRITE_AUDITED
            why = _OPEN if event.verdict is GuardVerdict.OFF else _AUDITING
            text = f"{why}: {who} writes to {what}: {fields[Field.REASON]}"
            self._event(kind, logging.WARNING, text, fields)
        else:
            text = f"vetoed: {who} may not write to {what}: {fields[Field.REASON]}"
            self._event(MessageId.WRITE_VETOED, logging.WARNING, text, fields)

    def switch_decided(self, event: SwitchEvent) -> None:
        """The guard let a program switch off what the kernel calls it by, or refused that."""
        who = f"{event.command}[{event.pid}] of uid {event.uid}"
        fields = {
            Field.SWITCH: _FTRACE,
            Field.PID: str(event.pid),
            Field.UID: str(event.uid),
            Field.COMMAND: event.command,
        }
        if not event.allowed:
            fields[Field.REASON] = f"the kernel would not call the guard any more; {_SWITCH_OFF}"
            text = f"vetoed: {who} may not switch {_FTRACE} off: {fields[Field.REASON]}"
            self._event(MessageId.SWITCH_VETOED, logging.WARNING, text, fields)
            return
        fields[Field.REASON] = _LET_SWITCH.get(event.verdict, _AUDITING)
        text = (
            f"{fields[Field.REASON]}: {who} SWITCHES {_FTRACE} OFF; until it is 1, the kernel does not call the guard"
        )
        self._event(MessageId.SWITCH_ALLOWED, ALERT, text, fields)

    def entered(self, livepatch: Installed) -> None:
        """A livepatch is new in the stack."""
        states = ", ".join(f"{each.id:#x} version {each.version}" for each in livepatch.carried or ())
        text = f"livepatch {livepatch.name} is installed" + (f", with state {states}" if states else "")
        self._event(MessageId.LIVEPATCH_ENTERED, logging.INFO, text, _livepatch_fields(livepatch))

    def left(self, livepatch: Installed) -> None:
        """A livepatch is no longer in the stack."""
        text = f"livepatch {livepatch.name} is no longer installed"
        self._event(MessageId.LIVEPATCH_LEFT, logging.INFO, text, _livepatch_fields(livepatch))

    def drift(self, drift: Drift) -> None:
        """A livepatch is in force that should not be."""
        text = f"drift: {drift.livepatch} is installed and was not approved: " + _reasons(drift.verdict)
        fields = {Field.LIVEPATCH: drift.livepatch, **_verdict_fields(drift.verdict)}
        self._event(MessageId.DRIFT_FOUND, logging.WARNING, text, fields)

    def approval_given(self, approval: StandingApproval) -> None:
        """Somebody had a livepatch approved, for anybody to load."""
        until = datetime.fromtimestamp(approval.until).astimezone()
        text = (
            f"user {approval.uid} had {approval.livepatch} approved, from {approval.file}: anybody may load it until "
            f"{until:%Y-%m-%d %H:%M:%S %Z}, as long as the policy lets it in"
        )
        self._event(MessageId.APPROVAL_GIVEN, logging.INFO, text, _approval_fields(approval))

    def approval_taken_back(self, approval: StandingApproval, uid: int) -> None:
        """Somebody had such an approval be over."""
        text = f"user {uid} took back that {approval.livepatch} is approved"
        fields = {**_approval_fields(approval), Field.UID: str(uid)}
        self._event(MessageId.APPROVAL_TAKEN_BACK, logging.INFO, text, fields)

    def job_ended(self, report: JobReport) -> None:
        """A job has come to its end."""
        if report.error == _NOT_AUTHORIZED and not self._admits(_Often(MessageId.JOB_REFUSED, report.uid)):
            return
        fields = {Field.JOB: str(report.id), **_json(Field.REPORT, report)}
        message = f": {report.message}" if report.message else ""
        text = f"job {report.id}, {report.goal}: {report.state}{message}"
        if report.state is JobState.DONE:
            self._event(MessageId.JOB_DONE, logging.INFO, text, fields)
        elif report.error in (VetoedError.dbus_name, _NOT_AUTHORIZED):
            self._event(MessageId.JOB_REFUSED, logging.WARNING, text, fields)
        else:
            self._event(MessageId.JOB_FAILED, logging.WARNING, text, fields)

    def policy_loaded(self, report: PolicyReport) -> None:
        """A policy is in force from now on."""
        text = f"policy in force: mode {report.mode}, default {report.default}, from {len(report.files)} files"
        text += f", with {report.manifests} manifests" if report.manifests else ""
        self._event(MessageId.POLICY_LOADED, logging.INFO, text, {Field.FILE: " ".join(report.files)})

    def policy_rejected(self, report: PolicyReport) -> None:
        """Policy files were not taken."""
        stays = "the built-in policy, which lets no livepatch in," if report.builtin else "the last good policy"
        told = "; ".join(report.errors[:MOST_TOLD])
        more = f"; and {len(report.errors) - MOST_TOLD} more" if len(report.errors) > MOST_TOLD else ""
        text = f"policy files were not taken, and {stays} is in force: {told}{more}"
        self._event(MessageId.POLICY_REJECTED, logging.ERROR, text, {})

    def defence(self, defence: Defence, *, alarm: bool = False) -> None:
        """A line of defence is as `defence` says.  `alarm`: it should refuse livepatches, and does not."""
        level = ALERT if alarm else logging.INFO if defence.state == "up" else logging.WARNING
        text = f"{defence.name} is {defence.state}: {defence.detail}"
        self._event(MessageId.DEFENCE_CHANGED, level, text, {Field.DEFENCE: defence.name})

    def guard_opened(self, uid: int) -> None:
        """Somebody opened the gate."""
        text = f"THE GUARD IS OPEN: user {uid} opened it, and the kernel refuses no livepatch until it is closed"
        self._event(MessageId.GUARD_OPENED, logging.CRITICAL, text, {Field.UID: str(uid)})

    def guard_closed(self, uid: int) -> None:
        """Somebody closed the gate."""
        text = f"user {uid} closed the guard; it does as the policy's mode says again"
        self._event(MessageId.GUARD_CLOSED, logging.WARNING, text, {Field.UID: str(uid)})

    def hold_timed_out(self, file: str, pid: int, user: int | None, *, reading: bool) -> None:
        """An opener went on without a verdict; or a reader did, who may be loading it where there is no guard.

        `user` is None for who may load modules: others cannot have his entries withheld.
        """
        if not self._admits(_Often(MessageId.HOLD_TIMED_OUT, user)):
            return
        if reading:
            text = f"thread {pid} read {file} before there was a verdict; if that was to load a livepatch, it went on"
        else:
            text = f"process {pid} opened {file} before there was a verdict; it takes one to load a livepatch"
        self._event(MessageId.HOLD_TIMED_OUT, logging.WARNING, text, {Field.FILE: file, Field.PID: str(pid)})

    def hold_refused(self, error: KernelError) -> None:
        """The kernel refused an opener, since it could not open his file for klpd."""
        if self._admits(_Often(MessageId.HOLD_REFUSED, error.errno)):
            remedy = _REMEDIES.get(error.errno, "try again")
            text = "an open of a file in a watched directory was refused (EPERM), since klpd could not have the file"
            self._event(MessageId.HOLD_REFUSED, logging.WARNING, f"{text}: {error}; {remedy}", {})

    def events_lost(self, number: int) -> None:
        """Decisions of the guard did not come to klpd."""
        text = f"{number} decisions of the guard have no entry, since klpd did not read them in time"
        fields = {Field.COUNT: str(number)}
        self._event(MessageId.EVENTS_LOST, logging.WARNING, f"{text}; what is in force: klpctl status", fields)

    def tell_withheld(self, *, all_of_them: bool = False) -> None:
        """Write how many entries were withheld, of each kind whose time is over (or of all), instead of them."""
        until = float("inf") if all_of_them else time.monotonic()
        with self._lock:
            often, vetoes = self._limit.ended(until), self._vetoes.ended(until)
        told = [(str(kind), number) for kind, number in often.items()]
        told += [(f"refusals of the bytes with the SHA-256 {digest}", number) for digest, number in vetoes.items()]
        for kind, number in told:
            text = f"{number} more entries like these were withheld within {self._limit.seconds:g} s: {kind}"
            self._event(MessageId.WITHHELD, logging.WARNING, text, {Field.COUNT: str(number)})

    def _admits(self, kind: _Often) -> bool:
        with self._lock:
            return self._limit.admits(kind, time.monotonic())

    def _approved(self, who: str, name: str, fields: Mapping[Field, str]) -> None:
        self._event(MessageId.LOAD_APPROVED, logging.INFO, f"approved: {who} loads {name}", fields)

    def _let_in(self, who: str, name: str, fields: Mapping[Field, str], reason: str, mode: GuardMode) -> None:
        kind = MessageId.LOAD_UNGUARDED if mode is GuardMode.OFF else MessageId.LOAD_AUDITED
        text = f"{_OPEN if mode is GuardMode.OFF else _AUDITING}: {who} loads {name}: {reason}"
        self._event(kind, logging.WARNING, text, {**fields, Field.REASON: reason})

    def _vetoed(self, who: str, name: str, fields: Mapping[Field, str], reason: str) -> None:
        with self._lock:
            if not self._vetoes.admits(fields.get(Field.DIGEST, ""), time.monotonic()):
                return
        text = f"vetoed: {who} may not load {name}: {reason}"
        self._event(MessageId.LOAD_VETOED, logging.WARNING, text, {**fields, Field.REASON: reason})

    def _event(self, message_id: MessageId, level: int, text: str, fields: Mapping[Field, str]) -> None:
        self._journal.event(message_id, level, text, {field.value: value for field, value in fields.items()})


def _why(judged: Judged | None, event: GuardEvent) -> str:
    why = _why_not(judged, event)
    return f"{why} ({_ENTRY})" if event.lock is Lock.ENTRY and not event.allowed else why


def _why_not(judged: Judged | None, event: GuardEvent) -> str:
    if event.verdict is GuardVerdict.TOO_BIG:
        return (
            f"{event.verdict}: it is larger than {LARGEST_MODULE >> 20} MiB, and nothing of that size is judged, by "
            "whatever way it is loaded; build it without debug information"
        )
    if event.verdict in _VOID:
        return f"{event.verdict}: {_VOID[event.verdict]}; load it again"
    if judged is None:
        return (
            f"{event.verdict}: nobody has approved these bytes. A file is judged, and approved, when it is opened in a "
            "watched directory; these came from elsewhere, from memory, or before their verdict, which took longer "
            f"than hold-timeout (klpctl check tells a verdict, and approves nothing); {_BY_KLPCTL}"
        )
    if judged.allowed:
        return f"{event.verdict}: its approval was used up, or was another process's; open the file anew"
    return judged.reasons


def _reasons(verdict: Verdict) -> str:
    return "; ".join(str(each) for each in verdict.reasons)


def _judged_fields(judged: Judged) -> dict[Field, str]:
    return {Field.FILE: judged.file, **({} if judged.verdict is None else _verdict_fields(judged.verdict))}


def _verdict_fields(verdict: Verdict) -> dict[Field, str]:
    return {
        Field.DECISION: verdict.decision.value,
        Field.RULE: str(verdict.reasons[0].rule),
        **_json(Field.FINDINGS, verdict),
    }


def _json(field: Field, value: Verdict | JobReport) -> dict[Field, str]:
    """`value` as JSON that fits into an entry: what is too long is shortened within it, what decides coming first."""
    whole = json.dumps(to_plain(value))
    if len(whole) <= LONGEST_JSON:  # it is all ASCII
        return {field: whole}
    if isinstance(value, Verdict):
        value = replace(value, findings=tuple(dict.fromkeys((*value.reasons, *value.findings))))
    shorter = (json.dumps(_shorter(to_plain(value), length, count)) for length, count in _SHORTER)
    fitting = next((each for each in shorter if len(each) <= LONGEST_JSON), None)
    return {Field.CUT: field.value, **({} if fitting is None else {field: fitting})}


def _shorter(plain: Plain, length: int, count: int) -> Plain:
    """`plain` with texts of at most so many characters, and lists of so many items."""
    if isinstance(plain, str):
        return plain if len(plain) <= length else f"{plain[: length - 3]}..."
    if isinstance(plain, list):
        return [_shorter(each, length, count) for each in plain[:count]]
    if isinstance(plain, dict):
        return {key: _shorter(each, length, count) for key, each in plain.items()}
    return plain


def _approval_fields(approval: StandingApproval) -> dict[Field, str]:
    return {
        Field.LIVEPATCH: approval.livepatch,
        Field.DIGEST: approval.digest,
        Field.FILE: approval.file,
        Field.UID: str(approval.uid),
    }


def _livepatch_fields(livepatch: Installed) -> dict[Field, str]:
    fields = {Field.LIVEPATCH: livepatch.name}
    if livepatch.digest is not None:
        fields[Field.DIGEST] = livepatch.digest
    return fields
