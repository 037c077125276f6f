# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages that are shown again and again."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios

from klpd.ctl.page import Page, line
from klpd.ctl.screen import Paper, Terminal


def test_a_page_takes_the_place_of_the_one_before_and_leaves_out_what_does_not_fit() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 6, 80, 0, 0))
    with os.fdopen(theirs, "w") as terminal:
        screen = Terminal(terminal, Page(80))
        screen.show([line(f"line {number}") for number in range(9)])
        first = os.read(ours, 4096).decode()
        screen.show([line("less")])
        second = os.read(ours, 4096).decode()
    os.close(ours)
    assert first.startswith("\x1b[Hline 0\x1b[K\r\n")
    assert first.endswith("line 2\x1b[K\r\n... 6 more lines\x1b[K\r\n\x1b[J")
    assert second == "\x1b[Hless\x1b[K\r\n\x1b[J"


def test_elsewhere_pages_follow_each_other(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "out")
    with open(path, "w", encoding="utf-8") as out:
        paper = Paper(out, Page())
        paper.show([line("first")])
        paper.show([line("second")])
    with open(path, encoding="utf-8") as written:
        assert written.read() == "first\n\nsecond\n\n"
