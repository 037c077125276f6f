# SPDX-License-Identifier: GPL-2.0-or-later
"""What any program may load for a time, since somebody had it approved."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from klpd.ctl.page import Span, Tone, line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.ctl.page import Line, Page
    from klpd.report import StandingApproval


def show_approval(approval: StandingApproval, page: Page) -> Iterator[Line]:
    """Until when which bytes may be loaded, and what the policy says to that now."""
    until = datetime.fromtimestamp(approval.until).astimezone()
    text = f"any program may load it until {until:%Y-%m-%d %H:%M:%S}, from wherever its bytes come"
    head = line(f"{approval.livepatch}: ", Span("approved", Tone.GOOD), ": ")
    if approval.refused:
        head = line(f"{approval.livepatch}: ", Span("approved, and refused now", Tone.WARN), ": ")
        text = f"{approval.refused}; it ends at {until:%Y-%m-%d %H:%M:%S}"
    bytes_are = f"SHA-256 {approval.digest[:16]}..., by user {approval.uid}"
    yield from page.paragraph(f"{text} ({bytes_are})", head=head, indent=2)
