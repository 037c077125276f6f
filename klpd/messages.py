# SPDX-License-Identifier: GPL-2.0-or-later
"""The kinds of journal entries that klpd writes, by their MESSAGE_ID, and the fields that they carry.

The ids are an interface (journalctl MESSAGE_ID=..., the message catalog): one is never given another meaning.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class MessageId(StrEnum):
    """One id for each kind of event (sd_journal_send(3), systemd.journal-fields(7))."""

    LOAD_VETOED = "371010d6247c4b72b794025601bcc16b"
    """The guard, or what stands in for it, refused a livepatch."""
    LOAD_APPROVED = "746d9c93f10a4a0eb83a7090e1d69f42"
    """The guard, or what stands in for it, let an approved livepatch through."""
    LOAD_AUDITED = "2e496de59dbd41bbb8202219da3844ff"
    """A livepatch was let through that the policy denies, since it is in audit mode."""
    LOAD_UNGUARDED = "5f1de4ffd8d44a3a9ea0be1b8c3d9a52"
    """A livepatch was let through that nothing approves, since the gate is open."""
    REFUSED_FILE_JUDGED = "94d1f7a63b0c4f2e8a5b60d7e31c9f82"
    """A file that was refused since nobody had judged it was judged after that, or could not be."""
    APPROVAL_GIVEN = "3f7b0d5e9c2a4e61b8d4f0a6172c95be"
    """Somebody had a livepatch approved, for anybody to load for a time."""
    APPROVAL_TAKEN_BACK = "b06e2c91d47f4a3385c1e9f27a8d604f"
    """Somebody had such an approval be over before its time."""
    WRITE_VETOED = "c65bebfd0e50462f81fda9963460a5c9"
    """The guard refused a write to an attribute of a livepatch."""
    WRITE_ALLOWED = "16db54e2dc1c47b18a7783413bccf4e1"
    """Somebody else than klpd wrote to an attribute of a livepatch, as every rule allows."""
    WRITE_AUDITED = "6032a27537b340759475f3befa2ac729"
    """A write to an attribute of a livepatch was let through that the policy denies, since it is in audit mode."""
    WRITE_UNGUARDED = "a1c7b0c2a7e64b0a8f3f6c1d58e6b947"
    """A write to an attribute of a livepatch was let through that the policy denies, since the gate is open."""
    LIVEPATCH_ENTERED = "87e20c3b92814bb4b42d858bd6c41158"
    """A livepatch is new in the installed stack."""
    LIVEPATCH_LEFT = "a5b31dd7ae5c43ec8bfbdcb8b620a5b5"
    """A livepatch has left the installed stack."""
    JOB_DONE = "3bf1ca9af64a4ad8a19dba14d0ffd04c"
    """A job reached its goal."""
    JOB_FAILED = "38a56ecc2de14ff396b388f56b7f1f68"
    """A job did not reach its goal."""
    JOB_REFUSED = "fcbd8b472beb47aaa0dc774bf96c341b"
    """A job was not begun, since the policy or polkit does not allow it."""
    POLICY_LOADED = "be0ca18cc43142688659b290a32cdd1a"
    """A policy is in force from now on."""
    POLICY_REJECTED = "4b98c2738d6a409b849cb16c28d125d4"
    """Policy files were not taken; another policy stays in force."""
    DRIFT_FOUND = "7d1c0d6f3f6146a4b3f09d0a6f0d52c7"
    """A livepatch is installed that neither an approval nor the policy accounts for."""
    GUARD_OPENED = "c19f0f2b66b94c0fb7b0d0a1e6f7d1b8"
    """Somebody opened the guard: no livepatch is refused any more."""
    GUARD_CLOSED = "e4b7a3f05a9f4f7d8c5d9d3f1b2a6c40"
    """The guard was closed again."""
    DEFENCE_CHANGED = "0c10b1a999014661ae45fd4e3456c3e1"
    """A line of defence came up or went down."""
    HOLD_TIMED_OUT = "c8abf2474104471e8b49ac874f7ba66f"
    """Who opened or read a module file went on before there was a verdict."""
    HOLD_REFUSED = "5f0f5d3f6d0f4f3c9b7e1c2a48d96b17"
    """The kernel refused an opener of a module file, since klpd could not have the file."""
    EVENTS_LOST = "d2a9b07c6e1b4d0fa3c58e7f19264b05"
    """Decisions of the guard have no entry: klpd did not take them from the kernel in time."""
    WITHHELD = "8c41f6a27b9e4f52bd06a3e1975c0d38"
    """There are more entries like some that were written; how many is told instead of them."""


class Field(StrEnum):
    """The fields of klpd's own in the journal."""

    LIVEPATCH = "KLPD_LIVEPATCH"
    DIGEST = "KLPD_DIGEST"
    DECISION = "KLPD_DECISION"
    FINDINGS = "KLPD_FINDINGS"
    """The verdict as JSON (klpd.plain of klpd.model.Verdict)."""
    RULE = "KLPD_RULE"
    """The place of the first rule that decided: file:line, or the kernel function."""
    REASON = "KLPD_REASON"
    """Why a load was refused, or let through against the policy."""
    PID = "KLPD_PID"
    UID = "KLPD_UID"
    COMMAND = "KLPD_COMMAND"
    WAY = "KLPD_WAY"
    """How the bytes came: "finit_module", "init_module", or "sysfs entry" where nobody saw that."""
    ATTRIBUTE = "KLPD_ATTRIBUTE"
    """The attribute of the livepatch that was opened for writing: "enabled" or "force"."""
    JOB = "KLPD_JOB"
    REPORT = "KLPD_REPORT"
    """A job's report as JSON (klpd.plain of klpd.report.JobReport)."""
    FILE = "KLPD_FILE"
    DEFENCE = "KLPD_DEFENCE"
    COUNT = "KLPD_COUNT"
    """How many events there were that have no entry of their own."""
    CUT = "KLPD_CUT"
    """The fields that were too long: the entry has but the beginning of them, or what fits of the JSON, or nothing."""


JSON_FIELDS: Final = frozenset({Field.FINDINGS.value, Field.REPORT.value})
"""Those whose values are JSON, of which a part makes no sense."""
