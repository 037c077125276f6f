# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking for passwords at a terminal, which polkit's own agent does: pkttyagent(1), as systemctl(1) uses it.

It asks only where nobody else does: a desktop's agent, if there is one, is left to do it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import subprocess

_AGENT: Final = "pkttyagent"
_PATIENCE: Final = 5.0
"""Seconds for it to register itself.  Where it takes longer, polkit would not ask anybody either."""


class PasswordAgent:
    """Started before the first request that may need it, and ended by whoever made it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Have it ready, if it is installed: without it, those are refused who need a password."""
        if self._process is not None and self._process.poll() is None:
            return
        import select
        import subprocess

        ready, told = os.pipe()
        command = [_AGENT, "--process", str(os.getpid()), "--fallback", "--notify-fd", str(told)]
        try:
            # It talks to the terminal itself; standard output belongs to klpctl.
            self._process = subprocess.Popen(command, pass_fds=(told,), stdout=subprocess.DEVNULL)
        except OSError:
            self._process = None
        finally:
            os.close(told)
        # The pipe ends when the agent is registered, has ended, or never began.
        select.select([ready], [], [], _PATIENCE)
        os.close(ready)

    def close(self) -> None:
        """End it, stopped as it may be for reading from a terminal that is not its own any more."""
        if self._process is not None:
            import signal

            self._process.terminate()
            self._process.send_signal(signal.SIGCONT)
            self._process.wait()
            self._process = None
