# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong with the test host itself, as opposed to the command that runs in it."""

from __future__ import annotations


class HarnessError(Exception):
    """The test host could not be built, started or reached.  The message says what to do about it."""


class HostDied(HarnessError):
    """The host went away under a command: QEMU ended, most often because the kernel panicked."""


class CommandTimeout(HarnessError):
    """A command did not end in its time; it was killed."""


class CommandFailed(HarnessError):
    """A command that was to succeed (``check=True``) did not."""
